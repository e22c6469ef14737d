"""Frames of a video file by index: seek, decode a stretch, turn it upright. Uses PyAV.

Frame `i` is the i-th frame in presentation order, even if the frame rate varies or the stream reorders its frames; see
`data.timeline`. A frame that a damaged file has lost looks like the one before it, as in a player.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from mgmae_jax.data.frame_folders import FrameFolder, Frames
from mgmae_jax.data.freed_memory import video_closed
from mgmae_jax.data.records import Record, RecordFile
from mgmae_jax.data.timeline import (
    Timeline,
    VideoInfo,
    all_frames,
    export_motion,
    frames_of,
    packets_of,
    read_timeline,
    stated_seconds,
)
from mgmae_jax.data.timeline_cache import keep_timeline, kept_timeline
from mgmae_jax.errors import MgmaeError, VideoError


@dataclasses.dataclass(frozen=True)
class Item:
    """A video that is not a file of its own, such as one in a bucket or in a file of records.

    Attributes:
      name: a stable name, for messages and reports.
      opener: opens the video of that name, as a seekable binary file, or gives the frames that it consists of.
    """

    name: str
    opener: Callable[[str], BinaryIO | Frames]

    def __str__(self) -> str:
        return self.name


Watch = Callable[[int, VideoFrame], bool]
"""Is given a frame and its index; returns whether it needs later ones, after those that are wanted."""
Readable = str | os.PathLike[str] | Item
"""What a video can be read from: the path of a file, or an `Item`."""


class Video:
    """An open video file; made by `open_video`.

    Attributes:
      path: its path or name.
      record: the record that it is in; None of a file.
      lost: how many frames `stream` has given so far that do not decode, so that the one before stands in for them.
    """

    def __init__(
        self,
        item: Readable,
        timeline: Timeline,
        container: InputContainer,
        stream: VideoStream,
        record: Record | None = None,
    ) -> None:
        self.path = _name(item)
        self.record, self.lost = record, 0
        self._item, self._timeline, self._container, self._stream = item, timeline, container, stream
        self._reformatter = VideoReformatter()
        self._at_start = True

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self._timeline.frames

    @property
    def timeline(self) -> Timeline:
        """When each frame is shown."""
        return self._timeline

    @property
    def stated_seconds(self) -> float:
        """The duration that the file's header states, which a truncated file does not reach; 0 if it states none."""
        return stated_seconds(self._container, self._stream)

    @property
    def fps(self) -> float:
        """Average frames per second; 0 if the file does not say."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 0)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames as shown, in pixels."""
        height, width = self._timeline.height, self._timeline.width
        return (width, height) if self._timeline.placement.transpose else (height, width)

    def state(self) -> tuple[object, ...]:
        """What tells another file of the same name apart, where it can be had for nothing: its size in bytes."""
        return (self._container.size,)

    @property
    def codec(self) -> str:
        """FFmpeg's name of its codec."""
        return self._stream.codec_context.name

    def decode(self, indices: Sequence[int] | np.ndarray, watch: Watch | None = None) -> np.ndarray:
        """Decodes the frames with these indices; see `decode_frames`.

        On a newly opened video `watch` is given every frame on the way, with its motion vectors as side data, and those
        after the last one until it has what it needs.
        """
        wanted = [int(index) for index in indices]
        if not wanted or wanted[0] < 0 or sorted(wanted) != wanted:
            raise ValueError(f"indices={wanted}: give at least one, none negative, none smaller than the one before it")
        if wanted[-1] >= self.frames:
            raise VideoError(self.path, f"frame {wanted[-1]} was requested, but it has {self.frames} frames")
        with reported(self.path):
            if watch is not None:
                export_motion(self._stream)
            found = self._from_key(set(wanted), watch)
            if len(found) < len(set(wanted)):  # Damage, or a file that cannot be sought exactly.
                found = self._from_start(set(wanted), watch)
            return np.stack([found[index] for index in wanted])

    def stream(self) -> Iterator[np.ndarray]:
        """Decodes all frames in order, one at a time: uint8 [H, W, 3], RGB.

        Raises:
          VideoError: the file is damaged, so that not all of them decode.
        """
        with reported(self.path):
            last: VideoFrame | None = None
            for index, frame in self._every_frame():
                self.lost += frame is last
                last = self._given(index, frame)
                yield self._image(last)

    def _from_key(self, wanted: set[int], watch: Watch | None) -> dict[int, np.ndarray]:
        """The wanted frames that decode from the last keyframe before them, or from the start if none is later."""
        first, last = min(wanted), max(wanted)
        keys = self._timeline.keys[: int(np.searchsorted(self._timeline.keys, self._timeline.shown[first], "right"))]
        found: dict[int, np.ndarray] = {}
        if len(keys) < 2:  # Seeking to the first keyframe saves nothing.
            frames = self._decoded_from_start()
        else:
            self._at_start = False
            with contextlib.suppress(av.FFmpegError):
                self._container.seek(int(keys[-1]), stream=self._stream)
            frames = self._decoded_from(int(keys[-1]))
        more = False
        for count, frame in enumerate(frames):
            index = self._timeline.index(frame, count)
            if watch is not None and index is not None:
                more = watch(index, frame)
            if index in wanted and index is not None:
                found[index] = self._image(frame)
            if len(found) == len(wanted) and not more:
                break
            if index is not None and index > last + _MOST_REORDERED:
                break
        return found

    def _from_start(self, wanted: set[int], watch: Watch | None) -> dict[int, np.ndarray]:
        """The wanted frames, decoded from the start of the file; right for every file, but slower."""
        found = {}
        for index, frame in self._every_frame():
            more = watch is not None and frame is not None and watch(index, frame)
            if index in wanted:
                found[index] = self._image(self._given(index, frame))
            if index >= max(wanted) + (_MOST_REORDERED if more else 0):
                break
        return found

    def _given(self, index: int, frame: VideoFrame | None) -> VideoFrame:
        if frame is None:
            reason = f"frame {index} of its {self.frames} does not decode, nor do the {_MOST_LOST} before it (damaged?)"
            raise VideoError(self.path, reason)
        return frame

    def _every_frame(self) -> Iterator[tuple[int, VideoFrame | None]]:
        """Every index with its frame; with the one before it if it does not decode, but at most `_MOST_LOST` times."""
        last: VideoFrame | None = None
        next_index = 0

        def lost(end: int) -> Iterator[tuple[int, VideoFrame | None]]:
            return ((i, last if i - next_index < _MOST_LOST else None) for i in range(next_index, end))

        for count, frame in enumerate(self._decoded_from_start()):
            index = self._timeline.index(frame, count)
            if index is not None and index >= next_index:
                yield from lost(index)
                yield index, frame
                last, next_index = frame, index + 1
        yield from lost(self.frames)

    def _decoded_from_start(self) -> Iterator[VideoFrame]:
        if self._at_start:
            self._at_start = False
            yield from all_frames(self._container, self._stream)
        else:
            with _opened(self._item) as (container, stream):
                stream.codec_context.flags = self._stream.codec_context.flags
                stream.codec_context.flags2 = self._stream.codec_context.flags2
                yield from all_frames(container, stream)

    def _decoded_from(self, key: int) -> Iterator[VideoFrame]:
        """Decodes from the keyframe with that timestamp, which lies after the place that was sought."""
        started = False
        for packet in packets_of(self._container, self._stream):
            started = started or (packet.is_keyframe and packet.pts == key)
            if started:
                # Leading pictures, shown before the keyframe, may need frames from before it.
                yield from (frame for frame in frames_of(packet) if frame.pts is not None and frame.pts >= key)
        if started:
            yield from frames_of(self._stream)

    def _image(self, frame: VideoFrame) -> np.ndarray:
        """The frame as it is shown: uint8 [H, W, 3], RGB."""
        height, width = self._timeline.height, self._timeline.width
        # By default swscale starts threads for every frame, which takes longer than the conversion.
        convert = functools.partial(self._reformatter.reformat, threads=1)
        if (frame.height, frame.width) != (height, width):  # The size changes within the file.
            frame = convert(frame, width, height, frame.format.name, interpolation=Interpolation.BICUBIC)
        # By default swscale mixes lines of chroma in some formats, as of 10 bits, but not in others, as of 8 bits.
        frame = convert(frame, format="rgb24", interpolation=Interpolation.POINT)
        return np.ascontiguousarray(self._timeline.placement.upright(frame.to_ndarray()))


OpenVideo = Video | FrameFolder
"""What `open_video` gives."""
# A playlist that poses as a video must not make us open URLs.
_OPEN_OPTIONS = {"protocol_whitelist": "file"}
_MOST_REORDERED = 32  # frames by which the order of decoding may differ from that of showing
_MOST_LOST = 60  # frames in a row that do not decode and that the one before them stands in for
_MAX_PIXELS = 2**26  # of a frame, 8192 x 8192: a damaged header must not take all memory


@contextlib.contextmanager
def open_video(item: Readable) -> Iterator[OpenVideo]:
    """Opens a video, reads its timeline and closes it at the end of the block.

    Args:
      item: a file in any format that FFmpeg reads, a folder of frames, or an `Item`.

    Yields:
      The open video.

    Raises:
      VideoError: the file is missing, empty, not a video, or without frames.
    """
    name = _name(item)
    with contextlib.ExitStack() as stack:
        stack.callback(video_closed)
        with reported(name):
            if isinstance(item, Item):
                given = item.opener(name)
                if isinstance(given, Frames):
                    video: OpenVideo = FrameFolder(given)
                else:
                    video = _open_item(item, stack.enter_context(given), stack)
            elif os.path.isdir(name):
                video = FrameFolder(Frames(name))
            else:
                video = _open_file(name, stack)
        yield video


def _open_file(name: str, stack: contextlib.ExitStack) -> Video:
    if not os.path.exists(name):
        raise VideoError(name, "no such file")
    if not os.path.isfile(name):
        raise VideoError(name, "is not a regular file")
    if os.path.getsize(name) == 0:
        raise VideoError(name, "is empty (0 bytes)")
    timeline = kept_timeline(name)
    if timeline is None:
        timeline = read_timeline(name, functools.partial(_opened, name))
        keep_timeline(name, timeline)
    return Video(name, timeline, *stack.enter_context(_opened(name)))


def _open_item(item: Item, file: BinaryIO, stack: contextlib.ExitStack) -> Video:
    """Opens an item whose opener has just given `file`."""
    opened = functools.partial(_opened, item, file)
    if not isinstance(file, RecordFile):
        timeline = read_timeline(item.name, opened)
        return Video(item, timeline, *stack.enter_context(opened()))
    record = file.record
    kept = record.timeline()
    if kept is None:
        kept = read_timeline(item.name, opened)
        record.keep(kept)
    held = Item(item.name, lambda name: RecordFile(name, record))  # so that the record is read once
    return Video(held, kept, *stack.enter_context(opened()), record)


def _name(item: Readable) -> str:
    return item.name if isinstance(item, Item) else os.fspath(item)


@contextlib.contextmanager
def _opened(item: Readable, file: Any = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a video at its start: from `file`, if it is open already."""
    with contextlib.ExitStack() as stack:
        if file is not None:
            file.seek(0)
        elif isinstance(item, Item):
            file = stack.enter_context(item.opener(item.name))  # type: ignore[arg-type]  # a file, see `open_video`
        else:
            file = os.path.abspath(item)  # a colon in a relative path reads as the name of a protocol
        container = stack.enter_context(av.open(file, "r", options=_OPEN_OPTIONS))
        yield container, _video_stream(_name(item), container)


def video_info(path: Readable) -> VideoInfo:
    """Reads what a video file holds: demuxes all of it, unless its timeline is kept.

    Args:
      path: a video file.

    Returns:
      Number of frames, size, frame rate.

    Raises:
      VideoError: the file is missing, empty, damaged, or not a video.
    """
    with open_video(path) as video:
        return VideoInfo(video.frames, *video.frame_size, video.fps)


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
def reported(path: str) -> Iterator[None]:
    """Turns whatever reading a file raises into a VideoError."""
    try:
        yield
    except MgmaeError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error)
        expected = isinstance(error, av.FFmpegError | OSError | UnicodeError)
        told = reason if expected else f"{type(error).__name__}: {reason}"
        raise VideoError(path, f"cannot be read as a video ({told})") from error


def _video_stream(path: str, container: InputContainer) -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        # The cover picture of an audio file is not a video.
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        others = sorted({"a cover picture" if stream.type == "video" else stream.type for stream in container.streams})
        raise VideoError(path, f"has no video stream (only {', '.join(others) or 'nothing at all'})")
    # A still picture may come before the video, and even be the one that the file says to show.
    moving = [stream for stream in streams if stream.frames != 1] or streams
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise VideoError(path, "uses a codec that this FFmpeg cannot decode")
    # AUTO has deadlocked under load, and videos are already decoded in parallel, one in each worker process.
    stream.thread_type = "SLICE"
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
    return stream
