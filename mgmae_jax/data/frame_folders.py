"""Folders of frames: a picture for each frame of a video, such as img_00001.jpg. Read by OpenCV."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import cv2
import numpy as np

from mgmae_jax.data.folders import PICTURES
from mgmae_jax.data.remote import open_video_file
from mgmae_jax.errors import VideoError

_NUMBERED = re.compile(r"(.*?)([0-9]{1,12})(\.[^.]+)")
_MAX_BYTES = 2**27  # of a picture
_MAX_PIXELS = 2**26  # as of a video's frame
# Optical flow is often stored beside the frames that it belongs to: flow_x_00001.jpg.
_FLOW = re.compile(r"flow|[uxy]_?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Which pictures of a folder are a video.

    Args:
      folder: its path.
      start: the number in the name of the first frame; None for the first picture there is.
      total: how many frames there are; None for all pictures from `start` on.
    """

    folder: str
    start: int | None = None
    total: int | None = None


@dataclasses.dataclass(frozen=True)
class FrameFolders:
    """Opens videos of a list of which some are folders of frames; the `opener` of its `VideoList`.

    Args:
      frames: which pictures are a video, by its name; other names are paths of files, local or remote.
    """

    frames: dict[str, Frames]

    def __call__(self, name: str) -> BinaryIO | Frames:
        """The frames of the video of that name, or its file."""
        return self.frames.get(name) or open_video_file(name)

    def alone(self, name: str) -> FrameFolders:
        """What opens that video only, and is small to send."""
        return FrameFolders({name: self.frames[name]} if name in self.frames else {})


class FrameFolder:
    """A video that is a folder of frames; read like a `decode.Video`. Pictures of other sizes are scaled to the first.

    Args:
      frames: which pictures.

    Raises:
      VideoError: there is no such folder or picture.
    """

    record, lost, stated_seconds = None, 0, 0.0

    def __init__(self, frames: Frames) -> None:
        self.path = frames.folder
        self._names = _names(frames)
        self._size: tuple[int, int] | None = None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self._names)

    @property
    def fps(self) -> float:
        """0, as pictures do not say it."""
        return 0.0

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the first frame, in pixels."""
        if self._size is None:
            self._size = self._read(0).shape[:2]
        return self._size

    def decode(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Reads the frames with these indices; see `decode.decode_frames`."""
        wanted = [int(index) for index in indices]
        if not wanted or wanted[0] < 0 or sorted(wanted) != wanted:
            raise ValueError(f"indices={wanted}: give at least one, none negative, none smaller than the one before it")
        if wanted[-1] >= self.frames:
            raise VideoError(self.path, f"frame {wanted[-1]} was requested, but it has {self.frames} frames")
        found = {index: self._scaled(index) for index in dict.fromkeys(wanted)}
        return np.stack([found[index] for index in wanted])

    def state(self) -> tuple[object, ...]:
        """What differs once other pictures are its frames: when the folder changed, and the pictures at both ends.

        Raises:
          VideoError: they are no longer there.
        """
        try:
            ends = {name: os.stat(os.path.join(self.path, name)) for name in (self._names[0], self._names[-1])}
            pictures = [(name, found.st_size, found.st_mtime_ns) for name, found in ends.items()]
            return (os.stat(self.path).st_mtime_ns, *pictures)
        except OSError as error:
            raise VideoError(self.path, f"cannot be read ({error.filename}: {error.strerror})") from error

    def stream(self) -> Iterator[np.ndarray]:
        """Reads all frames in order, one at a time: uint8 [H, W, 3], RGB."""
        return (self._scaled(index) for index in range(self.frames))

    def _scaled(self, index: int) -> np.ndarray:
        height, width = self.frame_size
        image = self._read(index)
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        return image

    def _read(self, index: int) -> np.ndarray:
        name = self._names[index]
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise VideoError(self.path, f"frame {index} cannot be read ({name}: {error.strerror})") from error
        if len(content) > _MAX_BYTES:
            raise VideoError(self.path, f"frame {index} cannot be read ({name}: over {_MAX_BYTES} bytes)")
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
        except cv2.error as error:
            raise VideoError(self.path, f"frame {index} cannot be read ({name}: {error.err})") from error
        if image is None:
            raise VideoError(self.path, f"frame {index} is not a picture, or damaged ({name})")
        if image.shape[0] * image.shape[1] > _MAX_PIXELS:
            raise VideoError(self.path, f"frame {index} has {image.shape[1]} x {image.shape[0]} pixels ({name})")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def frame_numbers(folder: str) -> list[int]:
    """The numbers in the names of a folder's pictures, increasing.

    Raises:
      VideoError: there are none, pictures of several kinds, or two of one number.
    """
    return sorted(_pictures(folder))


def _pictures(folder: str) -> dict[int, str]:
    """Names of the pictures of a video, by their numbers."""
    try:
        inside = os.listdir(folder)
    except OSError as error:
        raise VideoError(folder, f"cannot be listed ({error.strerror})") from error
    kinds: dict[tuple[str, str], dict[int, str]] = {}
    twice: dict[tuple[str, str], tuple[str, str]] = {}  # pictures of one number, such as 1.png and 01.png
    for name in sorted(inside):
        parts = _NUMBERED.fullmatch(name)
        if parts and not name.startswith(".") and parts[3].lower() in PICTURES:
            kind, number = (parts[1], parts[3]), int(parts[2])
            if (first := kinds.setdefault(kind, {}).setdefault(number, name)) != name:
                twice.setdefault(kind, (first, name))
    if len(kinds) > 1:
        kinds = {kind: found for kind, found in kinds.items() if not _FLOW.match(kind[0])}
    if len(kinds) > 1:
        shown = ", ".join(sorted(found[min(found)] for found in kinds.values())[:4])
        raise VideoError(folder, f"has pictures of several kinds ({shown}): leave those of one video in it")
    if not kinds:
        raise VideoError(folder, "is a folder without frames: numbered pictures, such as img_00001.jpg")
    ((kind, found),) = kinds.items()
    if kind in twice:
        both = " and ".join(twice[kind])
        raise VideoError(folder, f"has two pictures of one number ({both}): rename one, or take it out of the folder")
    return found


def _names(frames: Frames) -> list[str]:
    """Names of the pictures of a video, in the order of their numbers."""
    found = _pictures(frames.folder)
    if frames.start is None and frames.total is None:
        return [found[number] for number in sorted(found)]
    first = min(found) if frames.start is None else frames.start
    last = max(found) if frames.total is None else first + frames.total - 1
    missing = [number for number in range(first, last + 1) if number not in found]
    if missing:
        span = f"frames {first} to {last} are listed, and it has {min(found)} to {max(found)}"
        raise VideoError(frames.folder, f"{len(missing)} frames are missing, the first is number {missing[0]} ({span})")
    return [found[number] for number in range(first, last + 1)]
