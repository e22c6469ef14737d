"""The columns of a CSV list of videos: what its header calls them, and the cells of its rows."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mgmae_jax.data.folders import EXTENSIONS, is_video

PATH_NAMES = frozenset({
    "path", "paths", "video", "videos", "video_path", "path_to_video", "videopath", "file", "files", "filename",
    "filenames", "file_name", "file_path", "filepath", "video_file", "video_filename", "video_name", "clip_path",
})  # fmt: skip
"""What a header may call the column of the paths, in lower case; or "name", if there is none of these."""
LABEL_NAMES = frozenset({
    "label", "labels", "class", "classes", "class_name", "classname", "class_label", "class_id", "class_idx",
    "class_index", "label_name", "label_id", "label_idx", "label_index", "target", "targets", "category", "action",
    "action_label", "action_name", "action_class",
})  # fmt: skip
"""What a header may call the column of the labels."""
IGNORED_NAMES = frozenset({
    "", "unnamed:_0", "frames", "total_frames", "num_frames", "number_of_frames", "n_frames", "nframes", "numframes",
    "frame_count", "framecount", "nb_frames", "id", "index", "idx", "row", "video_id", "clip_id", "duration",
    "duration_s", "duration_sec", "fps", "frame_rate", "width", "height", "resolution", "size", "bytes", "md5",
})  # fmt: skip
"""Columns that say nothing about which video or label a row has."""
_KINETICS = frozenset({"youtube_id", "ytid", "yt_id"})
_PARTS = frozenset({"split", "subset", "fold", "partition", "set", "phase"})
_TIMES = re.compile(r"(?:(?:start|begin|end|stop)(?:_\w+)?|\w+_(?:start|begin|end|stop))")

# The longest first, so that a search finds the whole extension.
_EXTENSION = rf"(?:{'|'.join(re.escape(one) for one in sorted(EXTENSIONS, key=len, reverse=True))})"
_ENDS = re.compile(rf"{_EXTENSION}(?=\s|$)", re.IGNORECASE)
# A path may hold spaces, so it ends at the last extension of a video: `path`, `path label` or `path frames label`.
_SPACED = re.compile(rf"(.*{_EXTENSION})(?:(?:\s+([0-9]+))?\s+(\S+))?", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*" *')
_NUMBERS = re.compile(r"(?:\s+-?[0-9]+)+$")
# What the lists of VideoMAE V2 and MGMAE have for folders of frames.
_FRAMES = re.compile(r"(.*\S)\s+([0-9]{1,9})\s+([0-9]{1,9})")
_SHAPE = "`path`, `path,label` or `path,frames,label`"


class Columns(NamedTuple):
    """What a header says: how many columns there are, and which hold the path and the label."""

    width: int
    path: int
    label: int | None


FramesMean = Literal["start total", "total label"]
"""What the two numbers after a folder of frames are."""


class Row(NamedTuple):
    """A row.

    Attributes:
      path: of the video.
      label: as text, or None.
      start: number of the first frame, of a folder of frames; None for the first there is.
      total: how many frames a folder of frames has; None for all.
    """

    path: str
    label: str | None
    start: int | None = None
    total: int | None = None


class CsvRows:
    """Reads the lines of a CSV list, one after another; a call returns the row of a line, or None for the header.

    Cells are separated by commas, tabs or spaces. The first line may be a header.

    Args:
      folder: the list's folder, for messages about what lies there; None if it is remote.
      frames_mean: says what the numbers after a folder of frames are, when the first one is met; it may raise
        ValueError.

    Raises:
      ValueError: by a call: the line is not a row; the message says why.
    """

    def __init__(self, folder: Path | None, frames_mean: Callable[[], FramesMean]) -> None:
        self._folder, self._frames_mean = folder, frames_mean
        self._mean: FramesMean | None = None
        self._begun = False
        self._columns: Columns | None = None

    def __call__(self, line: str) -> Row | None:
        """Reads the next line; it is not blank, and has no space at its ends."""
        separator = _separator(line)
        if separator is None:
            spaced = _SPACED.fullmatch(line)
            self._check_mark(spaced[1] if spaced else line, line)
        if not self._begun:
            self._begun = True
            self._columns = read_header(_cells(line, separator or " "), line)
            if self._columns is not None:
                return None
        row = self._bare_row(line, separator) if self._columns is None else _row(line, separator, self._columns)
        if not row.path:
            raise ValueError(f"has no path ({_shown(line)})")
        self._check_mark(row.path, line)
        return row

    def _check_mark(self, path: str, line: str) -> None:
        mark = re.search("[;|]", path)
        if mark and not (self._folder and os.path.exists(self._folder / path)):
            raise ValueError(_other_separator(mark[0], line))

    def _bare_row(self, line: str, separator: str | None) -> Row:
        """A row of a list without a header."""
        spaced = _SPACED.fullmatch(line) if separator != "," and not line.startswith('"') else None
        if spaced and not any(_ENDS.search(cell) for cell in line.split("\t")[1:]):
            cells = [cell for cell in spaced.groups() if cell]
        elif separator is None:
            listed = listed_frames(line)
            if listed is not None and (self._mean or self._is_folder(listed[0])):
                return self._frames_row(*listed)
            cells = line.split()
            if len(cells) > 1:
                raise ValueError(self._no_comma(line))
        else:
            cells = _cells(line, separator)
            cells = [cell for cell in cells if cell] if separator == "\t" else cells
        if any(_ENDS.search(cell) for cell in cells[1:]):
            raise ValueError(_not_first(line))
        if len(cells) > 3 or not all(cells):
            raise ValueError(f"is not {_SHAPE} ({_shown(line)})")
        if len(cells) == 3 and not re.fullmatch("[0-9]+", cells[1]):
            raise ValueError(
                f"has {cells[1]!r} where {_SHAPE} has a number of frames: put names that hold a comma in quotes, or "
                f"name the columns in the first line: path,label ({_shown(line)})"
            )
        if len(cells) == 3 and cells[2] == "-1":  # `path 0 -1`: the whole video, without a label
            return Row(cells[0], None)
        listed = listed_frames(" ".join(cells)) if len(cells) == 3 else None
        if listed is not None and (self._mean or self._is_folder(cells[0])):
            return self._frames_row(cells[0], *listed[1:])
        return Row(cells[0], cells[-1] if len(cells) > 1 else None)

    def _is_folder(self, path: str) -> bool:
        return self._folder is not None and os.path.isdir(self._folder / path)

    def _frames_row(self, path: str, first: int, second: int) -> Row:
        self._mean = self._mean or self._frames_mean()
        if self._mean == "start total":
            return Row(path, None, first, second)
        return Row(path, str(second), None, first)

    def _no_comma(self, line: str) -> str:
        path = _NUMBERS.sub("", line)
        hint = ", after a video's name with its extension" if path != line else ""
        return f"separate the path from what follows by a comma{hint} ({_shown(line)})"


def listed_frames(line: str) -> tuple[str, int, int] | None:
    """The folder and the two numbers of `folder start total` or `folder total label`; None if a line is neither."""
    found = _FRAMES.fullmatch(line.replace(",", " ")) if line.count(",") in (0, 2) else None
    return None if found is None or is_video(found[1]) else (found[1], int(found[2]), int(found[3]))


def read_header(cells: Sequence[str], line: str) -> Columns | None:
    """The columns that a first line names; None if it is not a header.

    Raises:
      ValueError: it is a header that cannot be followed; the message says why.
    """
    names = [re.sub(r"[\s-]+", "_", cell.strip().lstrip("#").strip().lower()) for cell in cells]
    if any(_ENDS.search(cell) for cell in cells):
        return None
    if _KINETICS & set(names):
        raise ValueError(
            f"is the official list of Kinetics, which names no files: write a list with path,label ({_shown(line)})"
        )
    known = sum(bool(name) and name in PATH_NAMES | LABEL_NAMES | IGNORED_NAMES | {"name"} for name in names)
    if not (names[0] in PATH_NAMES or known > 1 or _labelled(names)):
        return None
    paths = [i for i, name in enumerate(names) if name in PATH_NAMES] or [
        i for i, name in enumerate(names) if name == "name"
    ]
    labels = [i for i, name in enumerate(names) if name in LABEL_NAMES]
    if not paths:
        raise ValueError(f"is a header without a column of paths: call it path ({_shown(line)})")
    for what, places in (("paths", paths), ("labels", labels)):
        if len(places) > 1:
            both = " and ".join(repr(cells[i]) for i in places[:2])
            raise ValueError(f"names two columns of {what}, {both}: keep one ({_shown(line)})")
    for i, name in enumerate(names):
        if i not in (*paths, *labels) and name not in IGNORED_NAMES:
            raise ValueError(f"has the column {cells[i]!r}: {_column_hint(name)} ({_shown(line)})")
    return Columns(len(cells), paths[0], labels[0] if labels else None)


def _labelled(names: Sequence[str]) -> bool:
    """Whether one cell of several is a word for labels that is hardly the name of a class."""
    return len(names) > 1 and any(name in LABEL_NAMES - {"action", "target", "targets"} for name in names)


def _column_hint(name: str) -> str:
    if name in _PARTS:
        return "write a list of its own for each part, without this column"
    if _TIMES.fullmatch(name):
        return "parts of a video are not supported: cut them into files, and remove the column"
    return "it is not known, so remove it; path, label and frames are"


def _separator(line: str) -> str | None:
    """The character between the cells; None for spaces, or if there is only one cell."""
    if line.startswith('"'):
        quoted = _QUOTED.match(line)
        after = line[quoted.end() : quoted.end() + 1] if quoted else ""
        if after and after in ";|":
            raise ValueError(_other_separator(after, line))
        return "\t" if after == "\t" else ","
    # A tab beside a comma is an accident.
    if "\t" in line and not any(cell.strip()[:1] == "," or cell.strip()[-1:] == "," for cell in line.split("\t")):
        return "\t"
    return "," if "," in line else None


def _cells(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    try:
        (cells,) = csv.reader([line], strict=True, delimiter=separator)
    except csv.Error as error:
        raise ValueError(f"{error} ({_shown(line)})") from error
    return [cell.strip() for cell in cells]


def _row(line: str, separator: str | None, columns: Columns) -> Row:
    """A row below a header."""
    if separator is not None:
        cells = _cells(line, separator)
    else:  # The path may hold spaces: all that is left between the cells before and after it.
        before = line.split(maxsplit=columns.path)
        after = before[-1].rsplit(maxsplit=columns.width - 1 - columns.path)
        cells = before[:-1] + after if len(before) > columns.path else before
        if is_video(line):  # a path with spaces, alone in its line
            cells = [line] if columns.path == 0 else cells
    if len(cells) == 1 and columns.path == 0:
        return Row(cells[0], None)
    if len(cells) != columns.width:
        hint = "put names that hold a comma in quotes" if separator == "," else "separate them by commas"
        hint += ", and name every column"
        has = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        raise ValueError(f"has {has}, and the header {columns.width}: {hint} ({_shown(line)})")
    path, label = cells[columns.path], None if columns.label is None else cells[columns.label]
    if not _ENDS.search(path) and any(_ENDS.search(cell) for cell in cells):
        raise ValueError(_not_first(line, "under the header's path"))
    if separator is None and _ENDS.search(path) and not is_video(path):
        raise ValueError(f"has more cells than the header's {columns.width} ({_shown(line)})")
    return Row(path, label or None)


def _not_first(line: str, where: str = "in the first cell") -> str:
    return (
        f"has a video's name that is not {where}: is there a comma in the name, without quotes? Or name the columns in "
        f"the first line: path,label ({_shown(line)})"
    )


def _other_separator(mark: str, line: str) -> str:
    return f"is the list separated by {mark!r}? Use commas ({_shown(line)})"


def _shown(line: str) -> str:
    return repr(line[:80])
