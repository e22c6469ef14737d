"""When each frame of a video is shown: read from the packets of the file, and checked against the decoder."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, cast

import av
import numpy as np
from av.codec.context import Flags, Flags2
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mgmae_jax.errors import VideoError

_CHECKED = 3  # frames whose timestamps are compared with those of the packets


Opener = Callable[[], AbstractContextManager[tuple[InputContainer, VideoStream]]]
"""Opens a file at its start, with its video stream ready for decoding."""


class Placement(NamedTuple):
    """How a decoded frame is turned upright: transposed first, then mirrored."""

    transpose: bool
    mirror_x: bool
    mirror_y: bool

    def upright(self, image: np.ndarray) -> np.ndarray:
        """A view of the image [H, W, ...] as it is shown."""
        image = image.swapaxes(0, 1) if self.transpose else image
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


# By their number, counter-clockwise.
_QUARTER_TURNS = (
    Placement(False, False, False),
    Placement(True, False, True),
    Placement(False, True, True),
    Placement(True, True, False),
)


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a video file holds.

    Attributes:
      frames: number of frames.
      height: the frames' height as shown, in pixels.
      width: the frames' width as shown, in pixels.
      fps: average frames per second; 0 if the file does not say.
    """

    frames: int
    height: int
    width: int
    fps: float


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The frames of a video, in presentation order.

    Attributes:
      shown: int64 [F], the timestamp of each frame in units of the stream's time base, increasing; if they are not
        usable, the numbers from 0 to F - 1.
      keys: int64 [K], timestamps of the keyframes that can be sought, increasing; none without usable timestamps.
      timed: whether `shown` holds timestamps.
      height: of the first frame as stored, in pixels; later ones are scaled to it.
      width: of the first frame as stored, in pixels.
      placement: how frames are turned upright.
    """

    shown: np.ndarray
    keys: np.ndarray
    timed: bool
    height: int
    width: int
    placement: Placement

    @property
    def frames(self) -> int:
        """Number of frames, F."""
        return len(self.shown)

    def index(self, frame: VideoFrame, count: int) -> int | None:
        """The place of a decoded frame; None if it is not one of those that are shown.

        Args:
          frame: the frame.
          count: how many came before it from the start of the file, which is its place without usable timestamps.
        """
        if not self.timed:
            return count if count < self.frames else None
        if frame.pts is None:
            return None
        place = int(np.searchsorted(self.shown, frame.pts))
        return place if place < self.frames and self.shown[place] == frame.pts else None


def read_timeline(path: str, opened: Opener) -> Timeline:
    """Reads a timeline: demuxes the whole file, and decodes its first frames.

    Frames that the decoder does not give at the start, because they need earlier ones that the file lacks, are left
    out. If timestamps are missing, repeated, guessed or run backwards, the whole file is decoded instead.

    Args:
      path: the file's name, for errors.
      opened: opens the file.

    Raises:
      VideoError: there is no frame.
    """
    packets: list[_Packet] = []
    first: list[VideoFrame] = []
    with opened() as (container, stream):
        for packet in packets_of(container, stream):
            if packet.size and not _hidden(packet, stream):
                packets.append(_Packet(packet.pts, packet.is_keyframe, packet.is_discard, packet.is_corrupt))
            if len(first) < _CHECKED:
                first += frames_of(packet)
        if len(first) < _CHECKED:
            first += frames_of(stream)
        guessed = container.format.name == "avi"
        # Then the times of a stream whose frames the decoder reorders may be those of decoding.
        trusted = not (guessed and stream.codec_context.has_b_frames)
    while packets and packets[-1].corrupt:
        packets.pop()
    count = sum(not packet.discard for packet in packets)
    if not count:
        raise VideoError(path, "its video stream holds no frames")
    if not first:
        raise VideoError(path, f"none of its {count} frames decodes (damaged or encrypted?)")
    shape = (first[0].height, first[0].width, _placement(first[0]))
    shown, keys = _timestamps(packets, guessed=guessed)
    pts = [-1 if frame.pts is None else frame.pts for frame in first[:_CHECKED]]
    shown = shown[shown >= pts[0]]
    if trusted and len(shown) >= len(pts) and np.array_equal(shown[: len(pts)], pts):
        return Timeline(shown, keys, True, *shape)
    with opened() as (container, stream):
        given = [frame.pts for frame in all_frames(container, stream)]
    if guessed or None in given or np.any(np.diff(np.array(given, np.int64)) <= 0):
        return Timeline(np.arange(len(given)), keys[:0], False, *shape)
    return Timeline(np.array(given, np.int64), keys, True, *shape)


def stated_seconds(container: InputContainer, stream: VideoStream) -> float:
    """The duration that a file's header states for a stream; 0 if it states none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    stated = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # of Matroska
    if stated:
        return int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3])
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else 0.0


def export_motion(stream: VideoStream) -> None:
    """Before decoding: frames get motion vectors as side data, and number and bytes of their packet as `opaque`."""
    stream.codec_context.flags |= Flags.copy_opaque
    stream.codec_context.flags2 |= Flags2.export_mvs


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Demuxes from where the file stands, up to its end or to damage of the container."""
    with contextlib.suppress(av.FFmpegError):  # A truncated file still has the frames before the damage.
        for number, packet in enumerate(container.demux(stream)):
            if stream.codec_context.flags & Flags.copy_opaque:
                packet.opaque = number, bytes(packet)
            yield packet


def all_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decodes from where the file stands to its end; what is damaged gives no frames."""
    for packet in packets_of(container, stream):
        yield from frames_of(packet)
    yield from frames_of(stream)


def frames_of(source: Packet[VideoStream] | VideoStream) -> list[VideoFrame]:
    """Decodes a packet, or what the decoder of a stream still holds; a damaged packet gives no frames."""
    with contextlib.suppress(av.FFmpegError):
        if isinstance(source, VideoStream):
            return source.decode(None)
        return [frame for frame in source.decode() if isinstance(frame, VideoFrame)] if source.size else []
    return []


class _Packet(NamedTuple):
    pts: int | None
    key: bool
    discard: bool
    corrupt: bool


def _hidden(packet: Packet[VideoStream], stream: VideoStream) -> bool:
    """Whether the packet is a picture that is never shown: VP8 marks them in the fifth bit."""
    return stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10


def _timestamps(packets: list[_Packet], *, guessed: bool) -> tuple[np.ndarray, np.ndarray]:
    """The timestamps of the shown frames and of the keyframes, both increasing; none if they are not usable.

    Args:
      packets: in the order of the file.
      guessed: whether the container stores no presentation times, so that FFmpeg guesses those of reordered frames.
    """
    unusable = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if any(packet.pts is None for packet in packets):
        return unusable
    pts = np.array([packet.pts for packet in packets], np.int64)
    shown = pts[[not packet.discard for packet in packets]]
    keys = pts[[packet.key for packet in packets]]
    # What follows a keyframe in the file is shown after the keyframe before it, unless time jumps back there.
    latest_keys = np.concatenate([[np.iinfo(np.int64).min] * 2, keys])
    bounds = latest_keys[np.cumsum([packet.key for packet in packets])]
    ordered = np.sort(shown)
    repeated = np.any(np.diff(ordered) <= 0) or np.any(np.diff(keys) <= 0)
    if repeated or np.any(pts < bounds) or (guessed and np.any(shown != ordered)):
        return unusable
    return ordered, keys


def _placement(frame: VideoFrame) -> Placement:
    """Reads a frame's display matrix: a quarter turn, a mirror image, or both."""
    try:
        matrix = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # There is data of a kind that PyAV does not know, such as EXIF. It still gives the angle.
        return _QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return Placement(False, False, False)
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()  # x' = ax + cy, y' = bx + dy
    if abs(a) >= abs(b):
        return Placement(False, a < 0, d < 0)
    return Placement(True, c < 0, b < 0)
