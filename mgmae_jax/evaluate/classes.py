"""A classifier's classes: their names are stored with its run, and labels of other lists are matched with them."""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgmae_jax.data.sources import LabelledVideos, VideoList, composed, whole_number
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.runtime.checkpoint import file_above
from mgmae_jax.runtime.files import write_json
from mgmae_jax.runtime.weights import Checkpoint, Weights

CLASSES_FILE = "classes.json"
MAX_CLASSES = 10_000
"""More are taken for a mistake, such as a column of ids: a confusion matrix has this squared cells."""
_FEW_CLASSES, _CLASSES_PER_VIDEO = 1000, 10  # above both, a list of numbers has ids and not classes
_SHOWN = 5  # names shown in an error


def class_names(videos: VideoList, count: int, source: str = "the training videos") -> tuple[str, ...]:
    """Names of the classes that a head of `count` outputs learns from these videos.

    Args:
      videos: the training videos.
      count: number of classes. If the videos have names, their number; if these are numbers, or the labels are, some
        classes may have no video.
      source: where the videos were listed, for errors.

    Returns:
      The videos' names, or the numbers from 0 to count - 1 as text.

    Raises:
      ConfigError: the videos have names for another number of classes, or labels from `count` on.
      FileError: a label is not a class's number.
    """
    check_numbers(videos, source)
    if count > MAX_CLASSES:
        raise ConfigError("model.classes", count, f"{MAX_CLASSES} or fewer")
    numbers = tuple(str(label) for label in range(count))
    if videos.class_names is None:
        if videos.labels and max(videos.labels) >= count:
            low, high = min(videos.labels), max(videos.labels)
            from_one = f" (or count from 0: they start at {low})" if low else ""
            raise ConfigError("model.classes", count, f"{high + 1}: labels of {source} go to {high}{from_one}")
        return numbers
    names = videos.class_names
    if len(names) > count or (len(names) < count and not {whole_number(name) for name in names} <= set(range(count))):
        want = f"the number of classes of the training videos, which is {len(names)} ({_some(names)})"
        if len(names) < count:
            want += "; classes without videos can only be numbers: label the videos by numbers to have them"
        raise ConfigError("model.classes", count, want)
    return names if len(names) == count else numbers


def count_classes(videos: VideoList, source: str) -> int:
    """The number of classes of training videos: as many as they have names, or numbers up to their largest label.

    Args:
      videos: the training videos.
      source: where they were listed, for errors.

    Raises:
      FileError: a label is not a class's number, or is far beyond the number of videos.
    """
    check_numbers(videos, source)
    if videos.class_names is not None:
        return len(videos.class_names)
    count = max(videos.labels or (0,)) + 1
    if count > max(_FEW_CLASSES, _CLASSES_PER_VIDEO * len(videos)):
        path = videos.paths[(videos.labels or ()).index(count - 1)]
        reason = f"has label {count - 1} in {source}, a list of {len(videos)} videos: is it an id?"
        raise FileError(path, f"{reason} Number the classes from 0")
    return count


def check_numbers(videos: VideoList, source: str, least: int = 0) -> None:
    """Checks that labels which are numbers can be those of classes.

    Args:
      videos: the videos, labelled or not.
      source: where they were listed, for errors.
      least: the smallest label that is allowed.

    Raises:
      FileError: a label is too small or beyond reason, or there are too many names.
    """
    if videos.class_names is not None:
        if len(videos.class_names) > MAX_CLASSES:
            named = f"{len(videos.class_names)} classes ({_some(videos.class_names)})"
            raise FileError(source, f"has {named}, more than {MAX_CLASSES}: is that the column of the labels?")
        return
    for path, label in zip(videos.paths, videos.labels or (), strict=False):
        if not least <= label < MAX_CLASSES:
            want = f"a label is a class's number, from 0 to {MAX_CLASSES - 1}, or its name"
            raise FileError(path, f"has label {label} in {source}: {want}")


def write_classes(workdir: Path, classes: Sequence[str]) -> None:
    """Writes WORKDIR/classes.json: a list of names, by label.

    Raises:
      FileError: it cannot be written.
    """
    write_json(workdir / CLASSES_FILE, list(classes), indent=1)


def read_classes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names of the classes of the run that a checkpoint belongs to.

    Args:
      checkpoint: as for `restore_params`.

    Raises:
      FileError: there is no checkpoint, or no readable classes.json with its run.
    """
    if isinstance(checkpoint, Weights):
        if checkpoint.classes is None:
            raise FileError(checkpoint.name, "has no head: give a fine-tuned model; a pre-trained one has no classes")
        return checkpoint.classes
    path = file_above(checkpoint, CLASSES_FILE)
    if path is None:
        reason = f"no {CLASSES_FILE} above this checkpoint: give a fine-tuned model; a pre-trained one has no classes"
        raise FileError(checkpoint, reason)
    return read_names(path)


def read_names(path: Path) -> tuple[str, ...]:
    """Reads a classes.json.

    Raises:
      FileError: it is damaged.
    """
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ValueError("it is not a list of names")
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot be read as the classes of a run ({error})") from error
    return tuple(names)


def match_classes(videos: VideoList, classes: tuple[str, ...], source: str) -> LabelledVideos:
    """Gives videos the labels that a classifier uses for their classes, which are matched by name.

    A list names only the classes that occur in it, so its own numbers would shift if one is absent. A list of numbers
    names its classes by them: 2 is the class called "2", or "002" if there is no "2".

    Args:
      videos: the labelled videos.
      classes: names of the classifier's classes, numbers as text if they have no names.
      source: where the list came from, for errors.

    Returns:
      The same videos, labels from 0 to C - 1, and the classifier's names.

    Raises:
      MgmaeError: there are no videos, a video has no label, or a class is unknown to the classifier.
    """
    if not len(videos):
        raise FileError(source, "holds no video: nothing can be measured on an empty split")
    if videos.labels is None:
        raise _unlabelled(videos, source)
    names = videos.class_names
    known = {label: str(label) if names is None else names[label] for label in dict.fromkeys(videos.labels)}
    found = _find(set(known.values()), classes, source)
    unknown = [label for label in known if known[label] not in found]
    if unknown:
        raise _unknown(videos, sorted(unknown), classes, source)
    labels = {label: found[name] for label, name in known.items()}
    return LabelledVideos(videos.paths, tuple(labels[label] for label in videos.labels), classes, videos.opener)


def name_classes(videos: VideoList, classes: tuple[str, ...], source: str) -> VideoList:
    """As `match_classes`, but videos without labels are allowed, and stay without.

    Raises:
      MgmaeError: see `match_classes`; or some videos lie beside folders that may be classes.
    """
    if videos.labels is not None or not len(videos) or _stray(videos, source):
        return match_classes(videos, classes, source)
    return VideoList(videos.paths, None, classes, videos.opener)


def same_name(name: str) -> str:
    """What a class's name is compared by: its composed form, without the zeros before a number."""
    number = whole_number(name)
    return composed(name) if number is None else str(number)


def _find(names: set[str], classes: tuple[str, ...], source: str) -> Mapping[str, int]:
    """The place in `classes` of each name that is there: of the same text, or else the only one of the same value."""
    exact: dict[str, list[int]] = {}
    alike: dict[str, list[int]] = {}
    for label, name in enumerate(classes):
        exact.setdefault(composed(name), []).append(label)
        alike.setdefault(same_name(name), []).append(label)
    found = {}
    for name in names:
        same, near = exact.get(composed(name), []), alike.get(same_name(name), [])
        if len(same) > 1:
            labels = " and ".join(map(str, same))
            raise MgmaeError(
                f"{source} has the class {name!r}, and the model gives this name to the classes {labels}: rename them "
                "in its config.json or classes.json; `mgmae convert` writes these beside the weights of other files."
            )
        if same:
            found[name] = same[0]
        elif len(near) > 1:
            both = " or ".join(repr(classes[label]) for label in near)
            raise MgmaeError(f"{source} has the class {name!r}, which may be the model's {both}: name it as there.")
        elif near:
            found[name] = near[0]
    return found


def _unlabelled(videos: VideoList, source: str) -> FileError:
    if stray := _stray(videos, source):
        lies, them = ("lies", "it into its class's folder") if len(stray) == 1 else ("lie", "them into class folders")
        reason = f"{_some(stray)} {lies} at the top, beside folders of videos, which are thus not taken for classes"
        return FileError(source, f"{reason}: move {them}, or away")
    want = f"Every video of {source} needs one: a folder for each class, or a list with `path,label`"
    return FileError(videos.paths[0], f"has no label. {want}")


def _stray(videos: VideoList, source: str) -> list[str]:
    """Names of the videos at the top of a folder that has folders of videos, too."""
    if not os.path.isdir(source):
        return []
    top = [path for path in videos.paths if Path(path).parent == Path(source)]
    return [os.path.basename(path) for path in top] if len(top) < len(videos) else []


def _unknown(videos: VideoList, unknown: Sequence[int], classes: tuple[str, ...], source: str) -> MgmaeError:
    """The error for labels that no class of the model has."""
    if videos.class_names is None:
        if all(whole_number(name) is None for name in classes):
            return MgmaeError(
                f"{source} has numbers, the model's classes are {_some(classes)}: name the classes in the list too "
                f"(path,{classes[0]})."
            )
        path = videos.paths[(videos.labels or ()).index(unknown[0])]
        in_order = classes == tuple(str(label) for label in range(len(classes)))
        knows = f"0 to {len(classes) - 1}" if in_order else _some(classes)
        return FileError(path, f"has label {unknown[0]} in {source}; the model knows {knows}")
    names = [videos.class_names[label] for label in unknown]
    near = difflib.get_close_matches(names[0], classes, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return MgmaeError(
        f"{source} has classes that the model was not trained on: {_some(names)}{hint}. The model's {len(classes)} are "
        f"{_some(classes)}. Give videos of those classes, or another checkpoint."
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
