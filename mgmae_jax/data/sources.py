"""Lists of videos, by the kind of their source: a folder, a CSV list, a JSON-lines list or records.

A new kind is a function from a path to a `VideoList` and a line in `SOURCES`, at the end.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from mgmae_jax.data.decode import Item, Readable
from mgmae_jax.data.folders import find_in_folder
from mgmae_jax.data.frame_folders import FrameFolders, Frames
from mgmae_jax.data.lists import Listed, read_csv, read_jsonl
from mgmae_jax.data.record_lists import check_finished, names_records, read_split
from mgmae_jax.data.records import Records
from mgmae_jax.data.remote import is_remote, open_video_file
from mgmae_jax.errors import ConfigError, FileError, MgmaeError

_WHOLE_NUMBER = re.compile("-?[0-9]{1,100}")


@dataclasses.dataclass(frozen=True)
class VideoList:
    """Videos, with or without labels.

    Attributes:
      paths: the files, in the order of the list; or stable names of the videos, if they have an `opener`.
      labels: one for each video, or None.
      class_names: names of the classes, if the source has them; labels are then indices into it.
      opener: opens the video of a name, see `Item`; None if the names are paths. It travels to worker processes, so it
        must be picklable.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    opener: Callable[[str], BinaryIO | Frames] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def item(self, index: int) -> Readable:
        """Video number `index`, as `decode.open_video` takes it."""
        path = self.paths[index]
        if isinstance(self.opener, FrameFolders) and path not in self.opener.frames and not is_remote(path):
            return path  # so that its timeline is kept
        return path if self.opener is None else Item(path, self.opener)

    def alone(self, index: int) -> Readable:
        """As `item`, but small to send to another process."""
        item = self.item(index)
        if isinstance(item, Item) and isinstance(item.opener, Records | FrameFolders):
            return Item(item.name, item.opener.alone(item.name))
        return item

    def take(self, rows: Sequence[int]) -> Self:
        """The videos with these numbers, in this order."""
        labels = None if self.labels is None else tuple(self.labels[row] for row in rows)
        return dataclasses.replace(self, paths=tuple(self.paths[row] for row in rows), labels=labels)

    def names(self) -> tuple[str, ...]:
        """The videos' paths relative to their common folder; beside local videos, remote ones by their whole URLs."""
        remote = [is_remote(path) for path in self.paths]
        # A URL counts from no folder of this machine.
        whole = [os.path.abspath(f"/{path}" if far else path) for path, far in zip(self.paths, remote, strict=True)]
        local = [path for path, far in zip(whole, remote, strict=True) if not far]
        root = os.path.commonpath([os.path.dirname(path) for path in local or whole])
        roots = ["/" if local and far else root for far in remote]
        return tuple(os.path.relpath(path, start) for path, start in zip(whole, roots, strict=True))

    def digest(self, *, ordered: bool = True) -> str:
        """A name for these videos and labels, 16 hex digits, independent of where their common folder is.

        Args:
          ordered: whether another order has another name.
        """
        lines = [f"{name}\t{label}" for name, label in zip(self.names(), self.labels or ("",) * len(self), strict=True)]
        text = "\n".join(lines if ordered else sorted(lines))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class LabelledVideos(VideoList):
    """Videos that each have a label, an index into `class_names`, the names of a model's classes."""

    # Each with a field of its own: without one, it would take the default of the `VideoList`.
    labels: tuple[int, ...] = dataclasses.field()
    class_names: tuple[str, ...] = dataclasses.field()


def read_source(path: str | Path, field: str = "data.path") -> VideoList:
    """Lists the videos of a folder or of a list file.

    - A folder is searched with its sub-folders, in the order of the names. If every video is in a sub-folder, the name
      of its folder is its class. A folder of numbered pictures is a video, if there are no video files.
    - A `.csv` file has a line `path`, `path,label` or `path,frames,label` for each video, separated by commas, tabs or
      spaces (as VideoMAE's lists are). A first line that names the columns may put them in another order; see
      `data.columns` for the names. Labels are whole numbers or names. The lists of VideoMAE V2 and MGMAE are read:
      `path 0 -1`, and for folders of frames `folder start total` and `folder total label`.
    - A `.jsonl` file has a line `{"path": "a.mp4", "label": "jump"}` for each; labels may be left out of all lines.
    - `tfds:NAME@SPLIT`, or a folder that `mgmae prepare` wrote, holds records; see `record_lists.read_split`.

    Relative paths in a list are relative to the list's folder. A list, and the videos of a list, may be remote: see
    `data.remote`. Of the listed files, only the first few are looked for.
    Names of classes are composed (NFC), and sorted: by their values if all are whole numbers, else as text.

    Args:
      path: the folder or file.
      field: what gave the path, for errors: a config field, "eval.path", or what a command calls its argument, "VIDEO".

    Returns:
      The videos.

    Raises:
      MgmaeError: there is nothing at the path, or it is not a folder, .csv or .jsonl file; a ConfigError if a config
        field gave it.
      FileError: the folder or list holds no video or may not be looked at, a line of the list is wrong, or records are
        not finished.
    """
    if names_records(str(path)):
        return _from_records(str(path), field)
    if is_remote(str(path)):
        read = LISTS.get(PurePosixPath(str(path)).suffix.lower())
        if read is None:
            raise refused(
                field, str(path), f"a list that ends in {' or '.join(LISTS)}: a remote folder is not searched"
            )
        return _from_list(read(str(path)))
    path = Path(path)
    if os.path.isdir(path):
        return _read_folder(path)
    if not os.path.exists(path):
        check_access(path)
        check_finished(str(path))
        raise refused(field, str(path), "a folder of videos, or a .csv or .jsonl list, that exists")
    if path.suffix.lower() not in SOURCES:
        endings = " or ".join(SOURCES)
        raise refused(field, str(path), f"a folder of videos, or a list that ends in {endings}")
    return SOURCES[path.suffix.lower()](path)


def check_access(path: Path) -> None:
    """Checks that a path which does not seem to exist is not merely out of reach.

    Raises:
      FileError: a folder on the way to it may not be searched.
    """
    try:
        os.stat(path)
    except PermissionError as error:
        want = "let this user search the folders that it is in, or give another path"
        raise FileError(path, f"cannot be looked at ({error.strerror}): {want}") from error
    except (OSError, ValueError):  # it is not there, or no path at all
        return


def refused(field: str, value: str, want: str) -> MgmaeError:
    """The error for a path that cannot be used.

    Args:
      field: see `read_source`.
      value: what was given.
      want: what would work instead, as a phrase.
    """
    return ConfigError(field, value, want) if "." in field else MgmaeError(f"{field}: {value!r}: give {want}.")


def composed(name: str) -> str:
    """A class's name in the one form (NFC) in which equal texts are equal: macOS and Linux write é differently."""
    return unicodedata.normalize("NFC", name)


def whole_number(name: str) -> int | None:
    """The value of a name that is a whole number, such as 7 of "007"; else None."""
    return int(name) if _WHOLE_NUMBER.fullmatch(name) else None


def _read_folder(root: Path) -> VideoList:
    try:
        found = find_in_folder(root)
    except FileError:
        check_finished(str(root))
        raise
    paths = tuple(str(root / video) for video in found)
    if any(len(video.parts) == 1 for video in found):
        return VideoList(paths)
    return _named(paths, [video.parent.name for video in found])


def _named(paths: tuple[str, ...], labels: Sequence[str]) -> VideoList:
    labels = [composed(label) for label in labels]
    values = {name: whole_number(name) for name in labels}
    numbers = {name: value for name, value in values.items() if value is not None}
    in_order = sorted(values, key=lambda name: (numbers[name], name)) if len(numbers) == len(values) else sorted(values)
    index = {name: i for i, name in enumerate(in_order)}
    return VideoList(paths, tuple(index[label] for label in labels), tuple(in_order))


def _from_records(path: str, field: str) -> VideoList:
    split = read_split(path, field)
    if not split.classes or max(split.labels) < 0:  # without labels, as the test split of Something-Something V2
        return VideoList(split.names, opener=split.records)
    return VideoList(split.names, split.labels, split.classes, split.records)


def _from_list(listed: Listed) -> VideoList:
    paths, labels, frames = listed
    numbers = tuple(label for label in labels or () if isinstance(label, int))
    if labels is None:
        videos = VideoList(paths)
    elif len(numbers) == len(labels):
        videos = VideoList(paths, numbers)
    else:
        videos = _named(paths, [str(label) for label in labels])
    if frames:
        return dataclasses.replace(videos, opener=FrameFolders(frames))
    return dataclasses.replace(videos, opener=open_video_file) if any(map(is_remote, paths)) else videos


LISTS: dict[str, Callable[[str | Path], Listed]] = {".csv": read_csv, ".jsonl": read_jsonl}
"""The function that reads a list, by its file's extension."""
SOURCES: dict[str, Callable[[Path], VideoList]] = {
    ".csv": lambda path: _from_list(read_csv(path)),
    ".jsonl": lambda path: _from_list(read_jsonl(path)),
}
"""The function that lists the videos of a file, by the file's extension."""
