"""Lists of videos in files: the paths and labels of a CSV or a JSON-lines list."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from absl import logging

from mgmae_jax.data.columns import CsvRows, FramesMean, listed_frames
from mgmae_jax.data.folders import is_video
from mgmae_jax.data.frame_folders import Frames, frame_numbers
from mgmae_jax.data.remote import is_remote, join_listed, open_list
from mgmae_jax.errors import FileError, VideoError
from mgmae_jax.runtime.paths import BUCKETS, remote_scheme

MAX_LINE_BYTES = 64 * 1024
MOST_NUMBERED = 2**20
"""As many classes may have numbers only; higher labels are numbers of something else, and nothing is sized by them."""
_MOST_COUNTED = 64  # folders of frames whose pictures are counted to find out what a list says about them
_FIRST = 3  # videos whose presence is checked, as a list may have hundreds of thousands
_MAX_DIGITS = 100
_WHOLE_NUMBER = re.compile("-?[0-9]+")
# Any number, as tables write it.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
_NUMBERED = re.compile(r"-?[0-9]+\s+(.+)")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")


class Listed(NamedTuple):
    """What a list says.

    Attributes:
      paths: of the videos; relative ones are joined to the list's folder.
      labels: one for each video: all numbers, or all names; or None.
      frames: which pictures are a video, by its path, of folders that are listed with their frames. The path of a
        stretch of a folder, as AVA's are, says which one it is in any list: folder[9601:9901].
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...] | tuple[str, ...] | None
    frames: dict[str, Frames]


class Entry(NamedTuple):
    """What a line says.

    Attributes:
      path: of the video.
      label: as text, or None.
      number: the label, if it is a whole number.
      start: see `columns.Row`.
      total: see `columns.Row`.
    """

    path: str
    label: str | None
    number: int | None
    start: int | None = None
    total: int | None = None


Parse = Callable[[str], Entry | None]
"""Reads a line that is not blank; None if it names no video. Raises ValueError if it is wrong."""


def read_csv(path: str | Path) -> Listed:
    """Reads a CSV list, which may be remote; see `sources.read_source`.

    Raises:
      FileError: it cannot be read, lists no video, or a line is wrong.
    """
    rows = CsvRows(_folder(path), lambda: _frames_mean(path))

    def entry(line: str) -> Entry | None:
        row = rows(line)
        if row is None or row.label is None:
            return row and Entry(row.path, None, None, row.start, row.total)
        whole = _WHOLE_NUMBER.fullmatch(row.label)
        if whole and len(row.label) > _MAX_DIGITS:
            raise ValueError(f"has a label of {len(row.label)} digits")
        return Entry(row.path, row.label, int(row.label) if whole else None, row.start, row.total)

    listed = _read(path, entry)
    labels = listed.labels or ()
    if labels and isinstance(labels[0], str) and all(_NUMBER.fullmatch(str(label)) for label in labels):
        odd = next(i for i, label in enumerate(labels) if not _WHOLE_NUMBER.fullmatch(str(label)))
        reason = f"gives {listed.paths[odd]} the label {labels[odd]!r}: give whole numbers from 0, or names"
        raise FileError(path, reason)
    return listed


def read_jsonl(path: str | Path) -> Listed:
    """Reads a JSON-lines list, which may be remote; see `sources.read_source`.

    Raises:
      FileError: it cannot be read, lists no video, or a line is wrong.
    """
    return _read(path, json_entry)


def json_entry(line: str) -> Entry:
    """Reads a line of a JSON-lines list.

    Raises:
      ValueError: it is not `{"path": ..., "label": ...}`.
    """
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
    if isinstance(label, int):
        return Entry(_storable(video), str(label), label)
    return Entry(_storable(video), _storable(label) if label and label.strip() else None, None)


def _storable(text: str) -> str:
    """The text as it comes back from a file; JSON can spell halves of characters, which no file can hold."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character, {text[error.start]!a}") from error


def _read(path: str | Path, parse: Parse) -> Listed:
    paths: list[str] = []
    labels: list[str] = []
    numbers: list[int] = []
    frames: dict[int, Frames] = {}  # by the number of the video
    first: tuple[int, Entry] | None = None
    located = _Located(path)
    for number, line in _lines(path):
        try:
            entry = parse(line)
            if entry is None:
                continue
            if first is None:
                first = number, entry
            elif len(paths) == 1 and _like_header(first[1].path, entry.path, located.folder):
                number = first[0]
                raise ValueError(f"looks like a header, but calls no column path ({first[1].path!r})")
            if paths and (entry.label is None) != (not labels):
                raise ValueError(f"give every line a label, or none ({line[:80]!r})")
            paths.append(located(entry.path))
            if entry.total is not None:
                frames[len(paths) - 1] = Frames(paths[-1], entry.start, entry.total)
        except ValueError as error:
            raise FileError(path, f"line {number}: {error}") from error
        if entry.label is not None:
            labels.append(entry.label)
        if entry.number is not None:
            numbers.append(entry.number)
    if not paths:
        raise FileError(path, "lists no video")
    located.check()
    named = _named_frames(paths, frames)
    if not labels:
        return Listed(tuple(paths), None, named)
    return Listed(tuple(paths), tuple(numbers) if len(numbers) == len(labels) else tuple(labels), named)


def _named_frames(paths: list[str], frames: dict[int, Frames]) -> dict[str, Frames]:
    """The frames of each video, by its name, which is put into `paths`.

    A name goes into digests and the path of stored flow, so it must not depend on what else the list holds: where the
    first frame is listed, it says which frames are meant.
    """
    several: dict[str, set[Frames]] = {}
    for these in frames.values():
        several.setdefault(these.folder, set()).add(these)
    for number, these in frames.items():
        if these.start is not None or len(several[these.folder]) > 1:
            start = 1 if these.start is None else these.start
            paths[number] = f"{these.folder}[{start}:{start + (these.total or 0)}]"
    return {paths[number]: these for number, these in frames.items()}


def _frames_mean(path: str | Path) -> FramesMean:
    """What the two numbers after a folder are: the first list whose numbers fit the pictures in the folders.

    VideoMAE V2 and MGMAE have `folder start total` in lists for pre-training, and `folder total label` in lists for
    fine-tuning, with nothing to tell them apart but what the folders hold.

    Raises:
      ValueError: the folders fit neither, or both.
    """
    folder, counted = _folder(path), 0
    may_be: set[FramesMean] = {"start total", "total label"}
    for _, line in _lines(path):
        listed = listed_frames(line)
        if folder is None or listed is None or not os.path.isdir(folder / listed[0]):
            continue
        name, first, second = listed
        try:
            numbers = frame_numbers(str(folder / name))
        except VideoError as error:
            raise ValueError(f"{name!r} {error.reason}") from error
        fit: set[FramesMean] = set()
        if second and set(range(first, first + second)) <= set(numbers):
            fit.add("start total")
        if first == len(numbers):
            fit.add("total label")
        may_be, counted = may_be & (fit or may_be), counted + 1
        if not fit and counted == 1:
            span = f"it has {len(numbers)}, {numbers[0]} to {numbers[-1]}"
            raise ValueError(f"is neither `folder start total` nor `folder total label` of its pictures ({span})")
        if len(may_be) == 1 or counted == _MOST_COUNTED:
            break
    if len(may_be) != 1:
        raise ValueError("may be `folder start total` or `folder total label`: leave out the numbers of one kind")
    return may_be.pop()


def _like_header(first: str, second: str, folder: Path | None) -> bool:
    return not is_video(first) and is_video(second) and not (folder and os.path.exists(folder / first))


def _folder(path: str | Path) -> Path | None:
    return None if is_remote(str(path)) else Path(path).parent


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank with their numbers; never holds more than one line in memory.

    Bytes that are not UTF-8 become what `os.fsdecode` makes of them, so that they may name a file.
    """
    try:
        file = _open(path)
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror})") from error
    with file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1 and line.startswith(b"PK\x03\x04"):
                raise FileError(path, "is a spreadsheet or an archive, not text: save it as CSV in UTF-8")
            if number == 1 and (line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line[:2]):
                raise FileError(path, "is UTF-16: save it as UTF-8")
            if b"\0" in line:
                raise FileError(path, f"line {number}: holds zero bytes: is this a list?")
            if len(line) > MAX_LINE_BYTES:
                raise FileError(path, f"line {number}: is longer than {MAX_LINE_BYTES} bytes: is this a list?")
            if b"\r" in line.rstrip():
                raise FileError(path, f"line {number}: ends in CR alone, as on old Macs: save the list with LF or CRLF")
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape").strip()
            if text:
                yield number, text


def _open(path: str | Path) -> BinaryIO:
    return open_list(str(path)) if is_remote(str(path)) else Path(path).open("rb")


class _Located:
    """Joins the paths of a list to its folder, and looks whether the first ones are there.

    Args:
      path: the list.
    """

    def __init__(self, path: str | Path) -> None:
        self._list, self.folder = path, _folder(path)
        self._names: dict[str, dict[str, str]] = {}
        self._first: list[tuple[str, str]] = []  # as listed, and its path

    def __call__(self, video: str) -> str:
        """The path of a video.

        Raises:
          ValueError: it cannot be one.
        """
        scheme = remote_scheme(video)
        if scheme not in (None, *BUCKETS):
            raise ValueError(f"{video!r} is not a file here: fetch it, and give its path")
        if scheme or self.folder is None:
            return join_listed(str(self._list), video)
        located = str(self.folder / video)
        if not (video.isascii() or os.path.exists(located)):
            twin = self._twin(located)
            if twin is None and _NOT_UTF8.search(video):
                raise ValueError(f"is not UTF-8 text, and no file has just this name: save it as UTF-8 ({video!a})")
            located = twin or located
        if len(self._first) < _FIRST:
            self._first.append((video, located))
        return located

    def _twin(self, path: str) -> str | None:
        """The file whose name is the same text, but composed otherwise: macOS and Linux write é differently."""
        if unicodedata.normalize("NFC", path) == unicodedata.normalize("NFD", path):
            return None
        found = Path(path).anchor
        for part in Path(path).relative_to(found).parts:
            if not os.path.lexists(os.path.join(found, part)):
                part = self._composed(found or os.curdir).get(unicodedata.normalize("NFC", part), "")
                if not part:
                    return None
            found = os.path.join(found, part)
        return found

    def _composed(self, folder: str) -> dict[str, str]:
        """The names in a folder, by their composed forms."""
        if folder not in self._names:
            try:
                names = os.listdir(folder)
            except OSError:
                names = []
            self._names[folder] = {unicodedata.normalize("NFC", name): name for name in names}
        return self._names[folder]

    def check(self) -> None:
        """Says where paths count from if none of the first videos is there.

        Raises:
          FileError: they are where the same paths lead from the current folder, or stand after a number.
        """
        if self.folder is None or not self._first:
            return
        if any(os.path.isabs(video) or os.path.exists(located) for video, located in self._first):
            return
        video = self._first[0][0]
        numbered = [_NUMBERED.fullmatch(video) for video, _ in self._first]
        if all(found and os.path.exists(self.folder / found[1]) for found in numbered):
            raise FileError(self._list, f"has labels before the paths: give the path first ({video!r})")
        where = f"paths count from the list's folder, {self.folder}"
        if all(os.path.exists(video) for video, _ in self._first):
            want = f"give {os.path.relpath(video, self.folder)!r}, or an absolute path"
            raise FileError(self._list, f"{where}, and {video!r} is not there but in the current folder: {want}")
        slash = "; write / for \\" if "\\" in video else ""
        logging.warning("%s: %s, and %r is not there%s", self._list, where, video, slash)
