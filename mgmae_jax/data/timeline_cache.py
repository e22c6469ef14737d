"""Timelines kept on disk, so that a file is not demuxed for every clip: `timelines.sqlite` in the cache folder.

A timeline belongs to a path, the file's size and time of change, and the decoder's version. Several processes may read
and write at once. A damaged file is replaced. Without a writable cache folder nothing is kept, and each clip reads the
timeline of its file again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
from absl import logging

from mgmae_jax.data.timeline import Placement, Timeline
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.paths import cache_folder

_FORMAT = 2  # raised when a timeline of the same file would differ
_FIELDS = 6  # numbers before the timestamps
_MAX_BYTES = 64 * 2**20  # of a timeline: a million frames take an eighth
DECODER = " ".join(f"{name} {'.'.join(map(str, version))}" for name, version in sorted(av.library_versions.items()))
"""The versions of the libraries that read timelines: others may read other ones."""
_TABLE = "CREATE TABLE IF NOT EXISTS timelines (path BLOB PRIMARY KEY, state TEXT, numbers BLOB) WITHOUT ROWID"
_WAIT_S = 2.0  # for another process that writes

_here = threading.local()  # a connection belongs to its thread
_replaced: set[Path] = set()  # damaged files that this process has removed


def kept_timeline(path: str, inside: str | None = None) -> Timeline | None:
    """The timeline of a video from an earlier reading; None if there is none, or its file has changed since.

    Args:
      path: the video's path, or the place of a video that is inside another file.
      inside: the path of that file.
    """
    with contextlib.suppress(OSError, MgmaeError, sqlite3.Error, ValueError):
        asked = (_key(path), _state(inside or path))
        row = _execute("SELECT numbers FROM timelines WHERE path = ? AND state = ?", asked)
        return None if row is None else unpack_timeline(row[0])
    return None


def keep_timeline(path: str, timeline: Timeline, inside: str | None = None) -> None:
    """Keeps a timeline in place of an earlier one of that path; see `kept_timeline`."""
    with contextlib.suppress(OSError, MgmaeError, sqlite3.Error):
        row = (_key(path), _state(inside or path), pack_timeline(timeline))
        _execute("INSERT OR REPLACE INTO timelines VALUES (?, ?, ?)", row)


def _execute(statement: str, values: tuple[object, ...]) -> Any:
    """The first row that a statement gives, or None; a damaged file is replaced first, once in a process."""
    file = cache_folder("timelines").with_suffix(".sqlite")
    try:
        with _connection(file) as connection:
            return connection.execute(statement, values).fetchone()
    except sqlite3.OperationalError:  # it is locked or cannot be written, for example
        raise
    except sqlite3.DatabaseError as error:
        if file in _replaced:
            raise
        _replaced.add(file)
        logging.warning("%s: is damaged (%s): it is replaced, and timelines are read again", file, error)
        _remove(file)
    with _connection(file) as connection:
        return connection.execute(statement, values).fetchone()


def _connection(file: Path) -> sqlite3.Connection:
    if getattr(_here, "file", None) != file:
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(file, timeout=_WAIT_S)
        try:
            connection.execute("PRAGMA synchronous = OFF")  # what a power cut destroys is read again
            connection.execute(_TABLE)
        except sqlite3.Error:
            connection.close()
            raise
        _here.file, _here.connection = file, connection
    return _here.connection


def _remove(file: Path) -> None:
    """Closes this thread's connection to a file and removes it, with the journal that would be rolled back into it."""
    if getattr(_here, "file", None) == file:
        _here.connection.close()
        _here.file = None
    for path in (file.with_name(f"{file.name}-journal"), file):
        path.unlink(missing_ok=True)


def _key(path: str) -> bytes:
    return os.fsencode(os.path.abspath(path))


def _state(path: str) -> str:
    found = os.stat(path)
    return f"{_FORMAT} {found.st_size} {found.st_mtime_ns} {DECODER}"


def pack_timeline(timeline: Timeline) -> bytes:
    """A timeline as a few bytes."""
    placement = sum(turn << bit for bit, turn in enumerate(timeline.placement))
    fields = [timeline.timed, timeline.height, timeline.width, placement, len(timeline.keys), timeline.frames]
    numbers = np.concatenate([fields, timeline.keys, timeline.shown]).astype("<i8")
    return zlib.compress(np.diff(numbers, prepend=0).tobytes(), 1)  # differences repeat, so they compress well


def unpack_timeline(packed: bytes) -> Timeline:
    """The timeline that `pack_timeline` packed.

    Raises:
      ValueError: the bytes are damaged.
    """
    try:
        numbers = np.cumsum(np.frombuffer(zlib.decompressobj().decompress(packed, _MAX_BYTES), "<i8"))
    except zlib.error as error:
        raise ValueError(f"the timeline is damaged ({error})") from error
    if len(numbers) < _FIELDS:
        raise ValueError("the timeline is damaged")
    timed, height, width, placement, keys, frames = numbers[:_FIELDS].tolist()
    if len(numbers) != _FIELDS + keys + frames or frames < 1:
        raise ValueError("the timeline is damaged")
    turned = Placement(*(bool(placement >> bit & 1) for bit in range(3)))
    split = _FIELDS + keys
    return Timeline(numbers[split:], numbers[_FIELDS:split], bool(timed), height, width, turned)
