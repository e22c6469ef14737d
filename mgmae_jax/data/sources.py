"""Lists of videos, by the kind of their source: a folder, a CSV list or a JSON-lines list.

A new kind is a function from a path to a `VideoList` and a line in `SOURCES`, at the end.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from mgmae_jax.data.decode import Item, Readable
from mgmae_jax.errors import ConfigError, FileError

EXTENSIONS = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
MAX_LINE_BYTES = 64 * 1024

_WHOLE_NUMBER = re.compile(r"-?\d+")
# A path may hold spaces, so it ends at the last extension of a video: `path`, `path label` or `path frames label`.
_SPACED = re.compile(rf"(.*(?:{'|'.join(map(re.escape, EXTENSIONS))}))(?:(?:\s+\d+)?\s+(\S+))?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class VideoList:
    """Videos, with or without labels.

    Attributes:
      paths: the files, in the order of the list; or stable names of the videos, if they have an `opener`.
      labels: one for each video, or None.
      class_names: names of the classes, if the source has them; labels are then indices into it.
      opener: opens the video of a name, as a seekable binary file; None if the names are paths. It travels to worker
        processes, so it must be picklable.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    opener: Callable[[str], BinaryIO] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def item(self, index: int) -> Readable:
        """Video number `index`, as `decode.open_video` takes it."""
        path = self.paths[index]
        return path if self.opener is None else Item(path, self.opener)

    def take(self, rows: Sequence[int]) -> Self:
        """The videos with these numbers, in this order."""
        labels = None if self.labels is None else tuple(self.labels[row] for row in rows)
        return dataclasses.replace(self, paths=tuple(self.paths[row] for row in rows), labels=labels)

    def digest(self, *, ordered: bool = True) -> str:
        """A name for these videos and labels, 16 hex digits, independent of where their common folder is.

        Args:
          ordered: whether another order has another name.
        """
        root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in self.paths])
        lines = [
            f"{os.path.relpath(os.path.abspath(path), root)}\t{label}"
            for path, label in zip(self.paths, self.labels or ("",) * len(self), strict=True)
        ]
        text = "\n".join(lines if ordered else sorted(lines))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class LabelledVideos(VideoList):
    """Videos that each have a label, an index into `class_names`, the names of a model's classes."""

    # Each with a field of its own: without one, it would take the default of the `VideoList`.
    labels: tuple[int, ...] = dataclasses.field()
    class_names: tuple[str, ...] = dataclasses.field()


def read_source(path: str | Path) -> VideoList:
    """Lists the videos of a folder or of a list file. Does not check whether listed files exist.

    - A folder is searched with its sub-folders, in the order of the names. If every video is in a sub-folder, the name
    of its folder is its class.
    - A `.csv` file has a line `path`, `path,label` or `path,frames,label` for each video, separated by commas or by
      spaces (as VideoMAE's lists are), with or without a first line `path,label`. Labels are whole numbers or names.
    - A `.jsonl` file has a line `{"path": "a.mp4", "label": "jump"}` for each; labels may be left out of all lines.

    Relative paths in a list are relative to the list's folder.

    Args:
      path: the folder or file.

    Returns:
      The videos.

    Raises:
      ConfigError: there is nothing at the path, or it is not a folder, .csv or .jsonl file.
      FileError: the folder or list holds no video, or a line of the list is wrong.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise ConfigError("data.path", str(path), "a folder of videos, or a .csv or .jsonl list, that exists")
    if path.suffix.lower() not in SOURCES:
        endings = " or ".join(SOURCES)
        raise ConfigError("data.path", str(path), f"a folder of videos, or a list that ends in {endings}")
    return SOURCES[path.suffix.lower()](path)


def _read_folder(root: Path) -> VideoList:
    found = []
    seen = set()

    def fail(error: OSError) -> None:
        raise FileError(error.filename or root, f"cannot be listed ({error.strerror})")

    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=fail):
        real = os.path.realpath(folder)
        # Sorted, so that the same one of two links to a folder is followed on every machine.
        subfolders[:] = [] if real in seen else sorted(name for name in subfolders if not name.startswith("."))
        if real not in seen:
            inside = Path(folder).relative_to(root)
            # A name that starts with a dot is hidden; macOS leaves "._a.mp4" beside "a.mp4", and it is not a video.
            found += [inside / name for name in files if name.lower().endswith(EXTENSIONS) and name[0] != "."]
        seen.add(real)
    if not found:
        raise FileError(root, f"holds no video (searched all its folders for {' '.join(EXTENSIONS)})")
    found.sort(key=lambda video: video.parts)
    paths = tuple(str(root / video) for video in found)
    if any(len(video.parts) == 1 for video in found):
        return VideoList(paths)
    return _with_classes(paths, [video.parent.name for video in found])


def _with_classes(paths: tuple[str, ...], labels: Sequence[int | str]) -> VideoList:
    numbers = tuple(label for label in labels if isinstance(label, int))
    if len(numbers) == len(labels):
        return VideoList(paths, numbers)
    class_names = tuple(sorted({str(label) for label in labels}))
    index = {name: i for i, name in enumerate(class_names)}
    return VideoList(paths, tuple(index[str(label)] for label in labels), class_names)


def _read_list(path: Path, entry: Callable[[str, int], tuple[str, int | str | None] | None]) -> VideoList:
    paths: list[str] = []
    labels: list[int | str] = []
    for number, line in _lines(path):
        try:
            parsed = entry(line, number)
        except ValueError as error:
            raise FileError(path, f"line {number}: {error}") from error
        if parsed is None:
            continue
        video, label = parsed
        if paths and (label is None) != (not labels):
            raise FileError(path, f"line {number}: give every line a label, or none ({line[:80]!r})")
        paths.append(str(path.parent / video))
        if label is not None:
            labels.append(label)
    if not paths:
        raise FileError(path, "lists no video")
    return _with_classes(tuple(paths), labels) if labels else VideoList(tuple(paths))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank with their numbers; never holds more than one line in memory."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror})") from error
    with file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise FileError(path, f"line {number}: is longer than {MAX_LINE_BYTES} bytes: is this a list?")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise FileError(path, f"line {number}: is not UTF-8 text ({error.reason})") from error
            if text:
                yield number, text


def _csv_entry(line: str, number: int) -> tuple[str, int | str | None] | None:
    """Returns path and label; None for the header."""
    if "," in line or line.startswith('"'):
        try:
            (cells,) = csv.reader([line], strict=True)
        except csv.Error as error:
            raise ValueError(f"{error} ({line[:80]!r})") from error
        cells = [cell.strip() for cell in cells]
    elif match := _SPACED.fullmatch(line):
        cells = [cell for cell in match.groups() if cell]
    else:
        cells = line.split()
        if len(cells) > 1:
            raise ValueError(f"separate the path from what follows by a comma ({line[:80]!r})")
    if number == 1 and cells[0].lower() == "path":
        return None
    if len(cells) > 3 or not all(cells):
        raise ValueError(f"is not `path`, `path,label` or `path,frames,label` ({line[:80]!r})")
    label = cells[-1] if len(cells) > 1 else None
    return cells[0], int(label) if label is not None and _WHOLE_NUMBER.fullmatch(label) else label


def _json_entry(line: str, number: int) -> tuple[str, int | str | None]:
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error} ({line[:80]!r})") from error
    video = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(video, str) or not video:
        raise ValueError(f'is not an object with a "path" that is text ({line[:80]!r})')
    label = entry.get("label")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
        raise ValueError(f"has a label that is neither a whole number nor a name ({line[:80]!r})")
    return video, label


SOURCES: dict[str, Callable[[Path], VideoList]] = {
    ".csv": functools.partial(_read_list, entry=_csv_entry),
    ".jsonl": functools.partial(_read_list, entry=_json_entry),
}
"""The function that lists the videos of a file, by the file's extension."""
