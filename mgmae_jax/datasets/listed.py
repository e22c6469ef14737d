"""What a data set's own files say: which videos a split has, and what they are called."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mgmae_jax.data.folders import is_video
from mgmae_jax.data.lists import MOST_NUMBERED
from mgmae_jax.data.sources import VideoList
from mgmae_jax.errors import FileError, MgmaeError

_MAX_BYTES = 2**30  # of a file of labels; that of Kinetics-700 takes 36 MB
_SHOWN = 3
NO_VIDEO, NONE_THERE = "lists no video", "holds none"
"""What the reasons of errors begin with where a split is not there."""


@dataclasses.dataclass(frozen=True)
class ListedSplit:
    """A split as its files list it.

    Attributes:
      videos: those that are there, in the order of the list; with class names, or without labels.
      names: of the videos, unique, in the same order.
      missing: names of those that are listed and not there.
    """

    videos: VideoList
    names: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def listed(self) -> int:
        """How many videos the files list."""
        return len(self.names) + len(self.missing)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none without labels."""
        if self.videos.labels is None:
            return ()
        return self.videos.class_names or tuple(str(i) for i in range(max(self.videos.labels) + 1))


@dataclasses.dataclass(frozen=True)
class Official:
    """A published data set that its users download themselves.

    Args:
      read: lists a split: (folder of what was downloaded, variant, split) -> its videos.
      variants: what there is to choose, the first by default: editions, or ways to split; "" if there is one.
      splits: names of the splits.
      sizes: how many videos each split has, by variant and split, as published; 0 where that is not known.
      classes: how many classes, by variant.
      instructions: what the folder holds.
      homepage: where to download it.
      citation: of the paper.
    """

    read: Callable[[Path, str, str], ListedSplit]
    variants: tuple[str, ...]
    splits: tuple[str, ...]
    sizes: Mapping[str, Mapping[str, int]]
    classes: Mapping[str, int]
    instructions: str
    homepage: str
    citation: str


def split_from(
    folder: Path,
    listing: Path,
    entries: Sequence[tuple[str, str | None]],
    classes: tuple[str, ...],
    where: Mapping[str, str],
) -> ListedSplit:
    """A split whose videos have been looked up.

    Args:
      folder: that their paths are relative to.
      listing: where they are listed, for errors.
      entries: name and class, or None, of each video in the order of the list; one that is repeated counts once.
      classes: names of all classes, by their numbers.
      where: the path of each video that is there, relative to the folder, by its name.

    Raises:
      FileError: no video is listed or there, one has two classes or a class that is not one of these, or some have a
        class and others none.
    """
    listed: dict[str, str | None] = {}
    for name, label in entries:
        if listed.setdefault(name, label) != label:
            raise FileError(listing, f"lists {name} as {listed[name]!r} and as {label!r}: remove one of the two")
    if not listed:
        raise FileError(listing, NO_VIDEO)
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = next((name for name, label in listed.items() if label is not None and label not in numbers), None)
    if unknown is not None:
        reason = f"lists {unknown} as {listed[unknown]!r}, which the list of classes does not have"
        raise FileError(listing, reason)
    bare = [name for name, label in listed.items() if label is None]
    if 0 < len(bare) < len(listed):
        raise FileError(
            listing, f"gives {len(bare)} of {len(listed)} videos no class ({bare[0]}): give all one, or none"
        )
    there = [name for name in listed if name in where]
    missing = tuple(name for name in listed if name not in where)
    if not there:
        shown = ", ".join(missing[:_SHOWN])
        raise FileError(folder, f"{NONE_THERE} of the {len(missing)} listed videos ({shown}, ...)")
    paths = tuple(os.path.join(folder, where[name]) for name in there)
    names = tuple(where[name] for name in there)
    if bare:
        return ListedSplit(VideoList(paths), names, missing)
    labels = tuple(numbers[str(listed[name])] for name in there)
    return ListedSplit(VideoList(paths, labels, classes), names, missing)


def find_folder(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of several folders that is there.

    Raises:
      FileError: none is.
    """
    return _first(root, names, os.path.isdir, f"folder of {what}")


def find_file(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of several files that is there.

    Raises:
      FileError: none is.
    """
    return _first(root, names, os.path.isfile, what)


def _first(root: Path, names: Sequence[str], is_there: Callable[[Path], bool], what: str) -> Path:
    for name in names:
        if is_there(root / name):
            return root / name
    raise FileError(root, f"has no {what}: {' or '.join(names)}")


def read_text(path: Path) -> str:
    """The text of a file of labels.

    Raises:
      FileError: it cannot be read, or is not UTF-8.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FileError(path, f"is larger than {_MAX_BYTES >> 20} MiB: is this a list?")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, f"cannot be read ({error})") from error


def videos_below(folder: Path) -> list[str]:
    """Paths of all videos in a folder and its sub-folders, relative to it; sorted, so that machines agree.

    Raises:
      FileError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise FileError(error.filename or folder, f"cannot be listed ({error.strerror})")

    found = []
    for inside, _, files in os.walk(folder, followlinks=True, onerror=fail):
        relative = os.path.relpath(inside, folder)
        found += [os.path.normpath(os.path.join(relative, name)) for name in files if is_video(name)]
    return sorted(found)


def own_split(videos: VideoList, path: str) -> ListedSplit:
    """The videos of any folder or list, named by their paths below their common folder, and so the same on any machine.

    Args:
      videos: what `read_source` listed.
      path: where, for errors.

    Raises:
      MgmaeError: a video is listed twice, or a label is too high for the number of a class.
    """
    names = videos.names()
    highest = max(videos.labels or (0,))
    if videos.class_names is None and highest >= MOST_NUMBERED:
        raise MgmaeError(f"{path}: gives a video the label {highest}: number the classes from 0, or give their names.")
    if len(set(names)) < len(names):
        ((twice, _),) = collections.Counter(names).most_common(1)
        raise MgmaeError(f"{path}: lists {twice!r} twice: list each video once.")
    return ListedSplit(videos, names)
