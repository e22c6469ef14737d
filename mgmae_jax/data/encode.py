"""Frames to the bytes of a video file."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal, cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from mgmae_jax.errors import MgmaeError

Codec = Literal["h264", "vp9"]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How videos are encoded again, for reading at random places.

    Args:
      short_side: of the frames, in pixels; larger frames are scaled to it, smaller ones stay as they are. None keeps
        all.
      key_frames: distance of keyframes, in frames: a clip is decoded from the keyframe before it.
      codec: "h264" in MP4, or "vp9" in WebM, which is smaller and slower to write.

    Raises:
      MgmaeError: a value is out of range.
    """

    short_side: int | None = None
    key_frames: int = 16
    codec: Codec = "h264"

    def __post_init__(self) -> None:
        if self.short_side is not None and not 16 <= self.short_side <= 8192:
            raise MgmaeError(f"--short-side {self.short_side}: give 16 to 8192 pixels.")
        if not 1 <= self.key_frames <= 10000:
            raise MgmaeError(f"--key-frames {self.key_frames}: give 1 to 10000 frames.")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the encoded frames, both even, of frames of that size."""
        scale = min(1.0, self.short_side / min(height, width)) if self.short_side else 1.0
        even = [max(2, 2 * round(side * scale / 2)) for side in (height, width)]
        return even[0], even[1]


# One thread each: faster for small videos, and the same bytes on every machine. x264's mbtree reads memory that it
# never set if frames are narrow, and its bytes then differ between calls.
_FAST_TO_DECODE = {"tune": "fastdecode", "bf": "0", "refs": "1", "x264-params": "partitions=none"}
_ENCODERS: dict[Codec, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "mp4", {"crf": "23", "preset": "veryfast", "mbtree": "0"} | _FAST_TO_DECODE),
    "vp9": ("libvpx-vp9", "webm", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "0"}),
}
_USUAL_FPS = 25.0


def encode_mp4(frames: np.ndarray, fps: float) -> bytes:
    """Compresses frames with H.264 (yuv420p, which every player reads) at visually lossless quality.

    Args:
      frames: uint8 `[T, H, W, 3]` RGB, H and W even.
      fps: frames per second.
    """
    options = {"crf": "16", "preset": "veryfast", "mbtree": "0"}
    return _encoded(frames, frames.shape[1:3], fps, "libx264", "mp4", options)


def encode_again(frames: Iterable[np.ndarray], frame_size: tuple[int, int], fps: float, encoding: Encoding) -> bytes:
    """Compresses a video, one frame at a time.

    Args:
      frames: each uint8 [H, W, 3], RGB.
      frame_size: H and W in pixels.
      fps: frames per second; 0 if it is not known, and 25 is then written.
      encoding: how.

    Returns:
      The bytes of a file, the same for the same frames.
    """
    height, width = encoding.size(*frame_size)

    def scaled() -> Iterator[np.ndarray]:
        for frame in frames:
            same = frame.shape[:2] == (height, width)
            yield frame if same else cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)

    codec, container, options = _ENCODERS[encoding.codec]
    key_frames = str(encoding.key_frames)
    return _encoded(scaled(), (height, width), fps, codec, container, {**options, "g": key_frames})


def _encoded(
    frames: Iterable[np.ndarray],
    frame_size: tuple[int, ...],
    fps: float,
    codec: str,
    container_format: str,
    options: dict[str, str],
) -> bytes:
    file = io.BytesIO()
    # Without bitexact, a WebM file has a random number of its own.
    exact = {"fflags": "+bitexact"} if container_format == "webm" else {}
    with av.open(file, "w", format=container_format, options=exact) as container:
        rate = Fraction(fps or _USUAL_FPS).limit_denominator(1001)
        stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=options))
        stream.height, stream.width = frame_size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
