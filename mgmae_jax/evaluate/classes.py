"""A classifier's classes: their names are stored with its run, and labels of other lists are matched with them."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from mgmae_jax.data.sources import LabelledVideos, VideoList
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.runtime.checkpoint import file_above
from mgmae_jax.runtime.files import write_json

CLASSES_FILE = "classes.json"
_SHOWN = 5  # names shown in an error


def class_names(videos: VideoList, count: int) -> tuple[str, ...]:
    """Names of the classes that a head of `count` outputs learns from these videos; numbers if they have none.

    Raises:
      ConfigError: the videos have names for another number of classes.
    """
    if videos.class_names is None:
        return tuple(str(label) for label in range(count))
    if len(videos.class_names) != count:
        want = f"the number of classes of the training videos, which is {len(videos.class_names)}"
        raise ConfigError("model.classes", count, f"{want} ({_some(videos.class_names)})")
    return videos.class_names


def write_classes(workdir: Path, classes: Sequence[str]) -> None:
    """Writes WORKDIR/classes.json: a list of names, by label.

    Raises:
      FileError: it cannot be written.
    """
    write_json(workdir / CLASSES_FILE, list(classes), indent=1)


def read_classes(checkpoint: Path) -> tuple[str, ...]:
    """Names of the classes of the run that a checkpoint belongs to.

    Args:
      checkpoint: as for `find_checkpoint`.

    Raises:
      FileError: there is no checkpoint, or no readable classes.json with its run.
    """
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
    """Gives videos the labels that a classifier uses for their classes; matched by name if the list has names.

    A list names only the classes that occur in it, so its own numbers would shift if one is absent.

    Args:
      videos: the labelled videos.
      classes: names of the classifier's classes, numbers as text if they have no names.
      source: where the list came from, for errors.

    Returns:
      The same videos, labels from 0 to C - 1, and the classifier's names.

    Raises:
      MgmaeError: there are no videos, a video has no label, a label is out of range, or a class's name is
        unknown to the classifier.
    """
    if not len(videos):
        raise FileError(source, "holds no video: nothing can be measured on an empty split")
    if videos.labels is None:
        reason = (
            f"has no label. Every video of {source} needs one: a folder for each class, or a list with `path,label`"
        )
        raise FileError(videos.paths[0], reason)
    labels = videos.labels
    if videos.class_names is not None:
        number = {name: label for label, name in enumerate(classes)}
        unknown = [name for name in videos.class_names if name not in number]
        if unknown:
            near = difflib.get_close_matches(unknown[0], classes, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise MgmaeError(
                f"{source} has classes that the model was not trained on: {_some(unknown)}{hint}. The model's "
                f"{len(classes)} are {_some(classes)}. Give videos of those classes, or another checkpoint."
            )
        labels = tuple(number[videos.class_names[label]] for label in labels)
    for path, label in zip(videos.paths, labels, strict=True):
        if not 0 <= label < len(classes):
            raise FileError(path, f"has label {label} in {source}; the model knows 0 to {len(classes) - 1}")
    return LabelledVideos(videos.paths, labels, classes, videos.opener)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
