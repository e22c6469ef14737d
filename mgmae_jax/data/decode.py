"""Frames of a video file by index: seek, decode a stretch, rotate it upright. Uses PyAV.

Frame `i` is the i-th frame in presentation order, even if the frame rate varies or the stream reorders its frames. The
timestamps of all frames are read from the packets, without decoding anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mgmae_jax.errors import VideoError


@dataclasses.dataclass(frozen=True)
class Item:
    """A video that is not a file of its own, such as one in an archive or in a file of records.

    Attributes:
      name: a stable name, for messages and reports.
      opener: opens the video of that name, as a seekable binary file.
    """

    name: str
    opener: Callable[[str], BinaryIO]

    def __str__(self) -> str:
        return self.name


Readable = str | os.PathLike[str] | Item
"""What a video can be read from: the path of a file, or an `Item`."""


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a video file holds.

    Attributes:
      frames: number of frames.
      height: the frames' height as shown (after rotation), in pixels.
      width: the frames' width as shown, in pixels.
      rotation: how far frames are rotated for display, in degrees counter-clockwise: 0, 90, 180 or 270.
      fps: average frames per second; 0 if the file does not say.
    """

    frames: int
    height: int
    width: int
    rotation: int
    fps: float


@dataclasses.dataclass(frozen=True)
class _Timeline:
    """When each frame is shown, in units of the stream's time base.

    Attributes:
      shown: timestamps of the frames, sorted.
      keys: timestamps of the keyframes, sorted.
      seekable: False if timestamps are absent or guessed, so that only counting from the start is exact.
    """

    shown: list[int]
    keys: list[int]
    seekable: bool


class Video:
    """An open video file; made by `open_video`."""

    def __init__(self, item: Readable, container: InputContainer) -> None:
        self.path = path = _name(item)
        self._item = item
        self._container = container
        self._stream = _video_stream(path, container)
        self._timeline = _read_timeline(path, container, self._stream)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self._timeline.shown)

    @property
    def fps(self) -> float:
        """Average frames per second; 0 if the file does not say."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 0)

    def decode(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decodes the frames with these indices; see `decode_frames`."""
        frames = self._decode(indices)
        images = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
        return np.ascontiguousarray(np.rot90(images, _quarter_turns(frames[0]), axes=(1, 2)))

    def stream(self) -> Iterator[np.ndarray]:
        """Decodes all frames in order, one at a time: uint8 [H, W, 3], RGB.

        Raises:
          VideoError: the file is damaged, so that not all of them decode, or their size changes.
        """
        first, count = None, 0
        with _reported(self.path):
            for frame in itertools.islice(self._from_start(), self.frames):
                first = first or frame
                if (frame.height, frame.width) != (first.height, first.width):
                    raise VideoError(self.path, f"the size of its frames changes at frame {count}")
                yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(first)))
                count += 1
        if count < self.frames:
            raise self._too_few(self.frames - 1, count)

    def _decode(self, indices: Sequence[int] | np.ndarray) -> list[VideoFrame]:
        wanted = [int(index) for index in indices]
        if not wanted or wanted[0] < 0 or sorted(wanted) != wanted:
            raise ValueError(f"indices={wanted}: give at least one, none negative, none smaller than the one before it")
        if wanted[-1] >= self.frames:
            raise VideoError(self.path, f"frame {wanted[-1]} was requested, but it has {self.frames} frames")
        with _reported(self.path):
            found = self._decode_from_key(set(wanted)) or self._decode_from_start(set(wanted))
        sizes = {(frame.height, frame.width) for frame in found.values()}
        if len(sizes) > 1:
            raise VideoError(self.path, f"the size of its frames changes: {sorted(sizes)} (height, width)")
        return [found[index] for index in wanted]

    def _decode_from_key(self, wanted: set[int]) -> dict[int, VideoFrame] | None:
        """Seeks, then decodes; returns None if the result does not agree with the timeline."""
        shown = self._timeline.shown
        keys = [key for key in self._timeline.keys if key <= shown[min(wanted)]]
        if not self._timeline.seekable or len(keys) < 2:
            return None  # Seeking to the first keyframe saves nothing.
        try:
            self._container.seek(keys[-1], stream=self._stream)
        except av.FFmpegError:
            return None
        found: dict[int, VideoFrame] = {}
        rank = None
        for frame in _decode_stream(self._container, self._stream, from_pts=keys[-1]):
            if frame.pts is None or (rank is None and frame.pts < keys[-1]):
                continue
            rank = shown.index(keys[-1]) if rank is None else rank + 1
            if rank == len(shown) or frame.pts != shown[rank]:
                return None
            if rank in wanted:
                found[rank] = frame
                if len(found) == len(wanted):
                    return found
        return None

    def _decode_from_start(self, wanted: set[int]) -> dict[int, VideoFrame]:
        """Decodes and counts from the first frame: correct for every file, but slower."""
        found: dict[int, VideoFrame] = {}
        count = 0
        for frame in self._from_start():
            if count in wanted:
                found[count] = frame
                if len(found) == len(wanted):
                    return found
            count += 1
        raise self._too_few(max(wanted), count)

    def _from_start(self) -> Iterator[VideoFrame]:
        with _open_container(self._item) as container:
            yield from _decode_stream(container, _video_stream(self.path, container))

    def _too_few(self, wanted: int, count: int) -> VideoError:
        reason = f"frame {wanted} does not decode: only {count} of its {self.frames} frames do (damaged file?)"
        return VideoError(self.path, reason)


# A playlist that poses as a video must not make us open URLs.
_OPEN_OPTIONS = {"protocol_whitelist": "file"}


@contextlib.contextmanager
def open_video(item: Readable) -> Iterator[Video]:
    """Opens a video, reads its timeline and closes it at the end of the block.

    Args:
      item: a file in any format that FFmpeg reads, or an `Item` with the bytes of one.

    Yields:
      The open video.

    Raises:
      VideoError: the file is missing, empty, not a video, or without frames.
    """
    name = _name(item)
    if not isinstance(item, Item):
        if not os.path.exists(name):
            raise VideoError(name, "no such file")
        if not os.path.isfile(name):
            raise VideoError(name, "is not a regular file")
        if os.path.getsize(name) == 0:
            raise VideoError(name, "is empty (0 bytes)")
    with contextlib.ExitStack() as stack:
        with _reported(name):
            video = Video(item, stack.enter_context(_open_container(item)))
        yield video


def _name(item: Readable) -> str:
    return item.name if isinstance(item, Item) else os.fspath(item)


@contextlib.contextmanager
def _open_container(item: Readable) -> Iterator[InputContainer]:
    with contextlib.ExitStack() as stack:
        if isinstance(item, Item):
            file: str | BinaryIO = stack.enter_context(item.opener(item.name))
        else:
            file = os.path.abspath(item)  # a colon in a relative path reads as the name of a protocol
        yield stack.enter_context(av.open(file, "r", options=_OPEN_OPTIONS))


def video_info(path: Readable) -> VideoInfo:
    """Reads what a video file holds: demuxes all of it and decodes its first frame.

    Args:
      path: a video file.

    Returns:
      Number of frames, size, rotation, frame rate.

    Raises:
      VideoError: the file is missing, empty, damaged, or not a video.
    """
    with open_video(path) as video:
        (first,) = video._decode([0])
        rotation = _quarter_turns(first) * 90
        height, width = (first.width, first.height) if rotation % 180 else (first.height, first.width)
        return VideoInfo(video.frames, height, width, rotation, video.fps)


def decode_frames(path: Readable, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Decodes frames of a video file, upright, decoding only from the keyframe before the first to the last of them.

    Args:
      path: a video file.
      indices: which frames, in presentation order, from 0; each at least as large as the one before it.

    Returns:
      uint8 [len(indices), H, W, 3], RGB.

    Raises:
      VideoError: the file is missing, empty, damaged, not a video, or too short for the requested frames.
      ValueError: the indices are empty, negative or decreasing.
    """
    with open_video(path) as video:
        return video.decode(indices)


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    """Turns what PyAV and the file system raise into a VideoError."""
    try:
        yield
    except (av.FFmpegError, OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(path, f"cannot be read as a video ({reason})") from error


def _video_stream(path: str, container: InputContainer) -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        # The cover picture of an audio file is not a video.
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        others = sorted({stream.type for stream in container.streams})
        raise VideoError(path, f"has no video stream (only {', '.join(others) or 'nothing at all'})")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError(path, "uses a codec that this FFmpeg cannot decode")
    # AUTO has deadlocked under load, and videos are already decoded in parallel, one in each worker process.
    stream.thread_type = "SLICE"
    stream.codec_context.thread_count = 1
    return stream


def _read_timeline(path: str, container: InputContainer, stream: VideoStream) -> _Timeline:
    packets = []
    with contextlib.suppress(av.FFmpegError):  # A truncated file still has the frames before the damage.
        for packet in container.demux(stream):
            # VP8 codes pictures that are never shown; the fifth bit of a packet marks them.
            hidden = stream.codec_context.name == "vp8" and packet.size and not bytes(packet)[0] & 0x10
            if packet.size and not hidden:
                packets.append((packet.pts, packet.is_keyframe, packet.is_discard, packet.is_corrupt))
    while packets and packets[-1][-1]:
        packets.pop()
    frames = sum(not discard for _, _, discard, _ in packets)
    if not frames:
        raise VideoError(path, "its video stream holds no frames")
    timed = [(pts, key, discard) for pts, key, discard, _ in packets if pts is not None]
    if len(timed) < len(packets):
        return _Timeline(list(range(frames)), [], seekable=False)
    shown = [pts for pts, _, discard in timed if not discard]
    ordered = sorted(shown)
    # AVI stores no presentation times: if frames are reordered, FFmpeg guesses them, sometimes wrongly.
    guessed = container.format.name == "avi" and shown != ordered
    keys = sorted(pts for pts, key, _ in timed if key)
    return _Timeline(ordered, keys, seekable=not guessed and len(set(ordered)) == len(ordered))


def _decode_stream(container: InputContainer, stream: VideoStream, from_pts: int | None = None) -> Iterator[VideoFrame]:
    """Decodes from the keyframe with that timestamp, or from the start, to the end or the first damage."""
    started = from_pts is None
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            started = started or (packet.is_keyframe and packet.pts == from_pts)
            if started and packet.size:
                yield from packet.decode()
    if started:  # Frames before the damage may still wait in the decoder for their turn.
        with contextlib.suppress(av.FFmpegError):
            yield from stream.decode(None)


def _quarter_turns(frame: VideoFrame) -> int:
    return round(frame.rotation / 90) % 4
