"""The labels of videos as a classifier counts them."""

import difflib
from collections.abc import Sequence

from mgmae_jax.data.sources import VideoList
from mgmae_jax.errors import FileError, MgmaeError

_SHOWN = 5  # names told in an error


def match_classes(videos: VideoList, classes: tuple[str, ...], source: str) -> VideoList:
    """Gives videos the labels that a classifier knows their classes by: where the list has names, by name.

    A list names only the classes that occur in it, so its own numbers would shift where one is absent.

    Args:
      videos: labelled.
      classes: names of the classifier's classes, numbers as text where they have no others.
      source: where the list came from, for errors.

    Returns:
      The same videos, labels from 0 to C - 1, and the classifier's names.

    Raises:
      MgmaeError: there are no videos, a video has no label, a label is out of range, or the classifier has no class of
        a name.
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
    return VideoList(videos.paths, labels, classes)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
