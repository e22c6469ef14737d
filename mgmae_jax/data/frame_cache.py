"""Decoded frames of whole videos, kept on disk for a small data set: each video is then decoded once for all epochs.

A video's frames are one file, uint8 [F, H, W, 3] in NumPy's format, which all workers map. What is kept is never
dropped; once the folder is full, further videos are decoded each time. Clips, crops and flow are as without a cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgmae_jax.data.decode import OpenVideo, Readable, Video
from mgmae_jax.data.flow_places import video_facts
from mgmae_jax.errors import VideoError
from mgmae_jax.runtime.files import whole_file

_REMEDY = "free space there, lower config.data.cache_gib, or leave config.data.cache empty"
_FORMAT = 2  # raised when the frames of the same file would differ
_DEAD_S = 3600.0  # since a partial file last grew: nobody writes it any more


class FrameCache(NamedTuple):
    """Where decoded frames are kept.

    Attributes:
      folder: made if absent; the processes of a machine share it.
      gib: how much it may hold.
    """

    folder: str
    gib: float


def cached_frames(video: OpenVideo, item: Readable, indices: np.ndarray, cache: FrameCache) -> np.ndarray:
    """Frames of a video from the cache; if it is not there, decoded, and put there whole if it fits.

    Args:
      video: the open video.
      item: what it was opened from.
      indices: int [T], the frames.
      cache: where they are kept.

    Returns:
      uint8 [T, H, W, 3], as `Video.decode` gives them.

    Raises:
      VideoError: the frames cannot be decoded.
      FileError: the cache cannot be written.
    """
    _clear(cache.folder)
    shape = (video.frames, *video.frame_size, 3)
    facts = video_facts(video, item)
    named = repr((_FORMAT, str(item), facts, *(() if facts.digest else video.state())))
    path = Path(cache.folder) / f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.npy"
    with contextlib.suppress(OSError, ValueError):  # it is not there, or damaged
        kept: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape == shape and kept.dtype == np.uint8:
            return np.asarray(kept[indices])
    frames = video.decode(indices)
    if _used(cache.folder) + video.frames * frames[0].nbytes <= cache.gib * 2**30:
        with contextlib.suppress(_NotWholeError):
            _keep(path, video, shape)
    return frames


class _NotWholeError(Exception):
    """Not all frames of a video decode."""


def _keep(path: Path, video: OpenVideo, shape: tuple[int, ...]) -> None:
    """Writes all frames of a video, one at a time."""
    with whole_file(path, _REMEDY) as partial, partial.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        try:
            for frame in video.stream():
                file.write(np.ascontiguousarray(frame).data)
        except VideoError as error:
            raise _NotWholeError from error
        if isinstance(video, Video) and video.lost:  # by where decoding starts, other frames stand in for them
            raise _NotWholeError


@functools.cache
def _clear(folder: str) -> None:
    """Removes what killed processes have left half written; once in a process."""
    for partial in Path(folder).glob(".*.partial"):
        with contextlib.suppress(OSError):  # another process has finished or removed it
            if time.time() - partial.stat().st_mtime > _DEAD_S:
                partial.unlink()


def _used(folder: str) -> float:
    """The bytes of the files in a folder; infinity if it cannot be listed, so that nothing is added to it."""
    used = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process has finished or removed it
                    used += entry.stat().st_size
    except (FileNotFoundError, NotADirectoryError):  # it is made, or the error is told, when a video is written
        return 0
    except OSError:
        return math.inf
    return used
