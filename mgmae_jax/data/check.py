"""Reads every frame of every video once, to find those that are broken before a run does."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from mgmae_jax.data.decode import Item, OpenVideo, Readable, open_video
from mgmae_jax.data.lists import MOST_NUMBERED
from mgmae_jax.data.pool import mapper
from mgmae_jax.data.sources import VideoList
from mgmae_jax.errors import VideoError

_EACH = 8  # videos that a process is given at once
_QUANTILES = {"min": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "max": 1.0}
_EARLY, _EARLY_S = 0.1, 0.5  # what a video may end early: a tenth of it, and seconds, as headers are not exact
_SIZES = 10  # most frequent ones that are listed


@dataclasses.dataclass(frozen=True)
class Checked:
    """What was found in a video.

    Attributes:
      name: its path, or its name in records.
      problem: why it cannot be read; None if it can.
      frames: their number; 0 if it cannot be read, as for the next ones.
      height: of the frames, in pixels.
      width: of the frames, in pixels.
      fps: frames per second, if the file says it; 0 of folders of frames.
      size: bytes of the file, or of the record's video.
      lost: frames that do not decode, so that those before them stand in for them.
      early: seconds by which it ends before its header says, if that is a tenth of it or more: it may be truncated.
      picture: uint8 [h, w, 3], its middle frame, if it was asked for.
    """

    name: str
    problem: str | None = None
    frames: int = 0
    height: int = 0
    width: int = 0
    fps: float = 0.0
    size: int = 0
    lost: int = 0
    early: float = 0.0
    picture: np.ndarray | None = dataclasses.field(default=None, compare=False)

    @property
    def seconds(self) -> float:
        """Its duration; 0 if that is not known."""
        return self.frames / self.fps if self.fps else 0.0

    def facts(self) -> dict[str, Any]:
        """What is known about a video that can be read, as a line of a report."""
        numbers = {key: getattr(self, key) for key in ("frames", "height", "width", "fps", "lost", "early")}
        return {"path": self.name, **numbers, "bytes": self.size}


def check_videos(videos: VideoList, processes: int, pictures: Sequence[int], width: int) -> Iterator[Checked]:
    """Reads all videos, in order; those before an error have come.

    Args:
      videos: what to read.
      processes: how many read; with 1, only this one.
      pictures: numbers of the videos whose middle frame is wanted.
      width: of the pictures, in pixels.

    Raises:
      MgmaeError: a process could not start or was killed, or all videos need a package that is not installed.
    """
    wanted = set(pictures)
    tasks = [
        [(videos.alone(i), i in wanted) for i in range(start, min(start + _EACH, len(videos)))]
        for start in range(0, len(videos), _EACH)
    ]
    with mapper(min(processes, len(tasks)), "checking videos", _named) as apply:
        for found in apply(functools.partial(_check_some, width), tasks):
            yield from found


def check_video(item: Readable, picture_width: int | None = None) -> Checked:
    """Decodes every frame of a video.

    Args:
      item: the video.
      picture_width: of its middle frame, in pixels; None for no picture.
    """
    name = item.name if isinstance(item, Item) else os.fspath(item)
    count, picture = 0, None
    try:
        with open_video(item) as video:
            for frame in video.stream():
                if picture_width is not None and count == video.frames // 2:
                    height = max(1, round(picture_width * frame.shape[0] / frame.shape[1]))
                    picture = cv2.resize(frame, (picture_width, height), interpolation=cv2.INTER_AREA)
                count += 1
            size = video.frame_size
            early = _early(video.stated_seconds, count, video.fps)
            facts = (count, *size, round(video.fps, 3), _bytes(item, video), video.lost, early)
            return Checked(name, None, *facts, picture)
    except VideoError as error:
        return Checked(name, error.reason if error.path == name else str(error))


def _check_some(width: int, some: Sequence[tuple[Readable, bool]]) -> list[Checked]:
    return [check_video(item, width if wanted else None) for item, wanted in some]


def _named(some: Sequence[tuple[Readable, bool]]) -> list[str]:
    return [str(item) for item, _ in some]


def _early(stated: float, frames: int, fps: float) -> float:
    missing = stated - frames / fps if fps else 0.0
    return round(missing, 3) if missing >= max(_EARLY * stated, _EARLY_S) else 0.0


def _bytes(item: Readable, video: OpenVideo) -> int:
    if video.record is not None:
        return len(video.record.video)
    path = item.name if isinstance(item, Item) else os.fspath(item)
    return os.path.getsize(path) if os.path.isfile(path) else 0


def statistics(checked: Sequence[Checked], videos: VideoList) -> dict[str, Any]:
    """Numbers about all videos, as JSON values.

    Args:
      checked: what was found.
      videos: the list, in the same order.
    """
    good = [one for one in checked if one.problem is None]
    measures: dict[str, list[float]] = {
        "frames": [one.frames for one in good],
        "fps": [one.fps for one in good if one.fps],
        "seconds": [one.seconds for one in good if one.fps],
        "height": [one.height for one in good],
        "width": [one.width for one in good],
        "bytes": [one.size for one in good if one.size],
    }
    sizes = collections.Counter(f"{one.width}x{one.height}" for one in good)
    report = {
        "videos": len(checked),
        "broken": len(checked) - len(good),
        "with_lost_frames": sum(one.lost > 0 for one in good),
        "ending_early": sum(one.early > 0 for one in good),
        "hours": round(sum(one.seconds for one in good) / 3600, 3),
        **{name: _spread(values) for name, values in measures.items() if values},
        "sizes": dict(sizes.most_common(_SIZES)),
    }
    if max(videos.labels or (-1,)) >= 0:
        given, names = videos.labels or (), videos.class_names
        counts = collections.Counter(n for n, one in zip(given, checked, strict=True) if one.problem is None)
        classes = len(names) if names else max(given) + 1
        numbers = range(classes) if classes <= MOST_NUMBERED else sorted({n for n in given if n >= 0})
        report["labels"] = {names[n] if names else str(n): counts[n] for n in numbers}
    return report


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Quantiles that are themselves among the values, and so can be looked up."""
    found = np.quantile(np.array(values), list(_QUANTILES.values()), method="nearest")
    return {name: round(float(value), 3) for name, value in zip(_QUANTILES, found, strict=True)}
