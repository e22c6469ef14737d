"""Small video files, made on the spot."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def moving_square(num_frames: int, height: int, width: int) -> np.ndarray:
    """A bright square that crosses a gradient, one step a frame: uint8 [num_frames, height, width, 3]."""
    row, column = np.mgrid[:height, :width]
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for i in range(num_frames):
        frames[i] = np.stack([row * 120 // height, column * 120 // width, np.full_like(row, 60)], -1)
        left, top = (i * 3) % max(width - 8, 1), (i * 2) % max(height - 8, 1)
        frames[i, top : top + 8, left : left + 8] = 30 + (i * 37) % 220
    return frames


def write_video(
    path: Path,
    num_frames: int = 40,
    *,
    height: int = 48,
    width: int = 64,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    movflags: str = "",
    times: list[int] | None = None,
    rotation: int = 0,
    frames: np.ndarray | None = None,
) -> Path:
    """Writes a video of `moving_square` or of `frames`; `times` are in milliseconds, for a varying frame rate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = moving_square(num_frames, height, width) if frames is None else frames
    container_options = {"movflags": movflags} if path.suffix == ".mp4" and movflags else {}
    with av.open(str(path), "w", container_options=container_options) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """`make_video(name, ...)` writes `tmp_path / name`; see `write_video`."""
    return lambda name, *args, **kwargs: write_video(tmp_path / name, *args, **kwargs)


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five readable videos of 12 to 28 frames in two class folders."""
    root = tmp_path_factory.mktemp("videos")
    for i, name in enumerate(["jump/a.mp4", "jump/b.mp4", "run/c.mp4", "run/d.mp4", "run/e.mp4"]):
        write_video(root / name, 12 + 4 * i, options={"g": "6"})
    return root
