"""The clip of a picture: from a video file, or procedural."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mgmae_jax.data.augment import CropBox, crop_resize
from mgmae_jax.data.clips import ClipSpec
from mgmae_jax.data.decode import open_video
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import MgmaeError


def video_clip(path: str | os.PathLike[str], spec: ClipSpec, start: int | None) -> tuple[np.ndarray, str]:
    """Reads a clip of a file, the largest centred square of its frames.

    Args:
      path: of a video file.
      spec: the shape of the clip; the last frame of a shorter video is repeated.
      start: first frame; None puts the clip in the middle of the video.

    Returns:
      uint8 [T, S, S, 3], RGB, and a title that says which frames they are.

    Raises:
      VideoError: the file is no video.
      MgmaeError: it has no frame `start`.
    """
    with open_video(path) as video:
        indices = clip_indices(video.frames, spec, start)
        frames = video.decode(indices)
    height, width = frames.shape[1:3]
    side = min(height, width)
    box = CropBox((height - side) // 2, (width - side) // 2, side, side)
    return crop_resize(frames, box, spec.size), _title(Path(path).name, indices)


def motion_shapes_clip(name: str, seed: int, spec: ClipSpec, start: int | None) -> tuple[np.ndarray, str]:
    """Renders a clip of `datasets.motion_shapes`.

    Args:
      name: one of `motion_shapes.CLASSES`.
      seed: 0 or more; each gives another video.
      spec: the shape of the clip. The video is as long as those of the dataset, or as the clip if that is longer.
      start: as for `video_clip`.

    Returns:
      As `video_clip`.

    Raises:
      MgmaeError: the video has no frame `start`, the seed is negative, or the clip is smaller than 32 pixels.
    """
    length = max(40, spec.stride * (spec.frames - 1) + 1)
    label = motion_shapes.CLASSES.index(name)
    video = motion_shapes.render(seed, 0, size=(spec.size, spec.size), frames=length, label=label)
    indices = clip_indices(length, spec, start)
    return video.frames[indices], _title(f"Procedural video {name}", indices)


def clip_indices(num_frames: int, spec: ClipSpec, start: int | None) -> np.ndarray:
    """The frames of a clip that begins at `start`, or lies in the middle: int [T], each below `num_frames`.

    Raises:
      MgmaeError: the start is no frame of the video.
    """
    offsets = spec.stride * np.arange(spec.frames)
    if start is None:
        start = max(num_frames - 1 - int(offsets[-1]), 0) // 2
    if not 0 <= start < num_frames:
        raise MgmaeError(f"--start={start}: give a frame of the video, from 0 to {num_frames - 1}.")
    return np.minimum(start + offsets, num_frames - 1)


def _title(name: str, indices: np.ndarray) -> str:
    repeated = int((np.diff(indices) == 0).sum())
    end = f", the last {repeated + 1} times (the video is short)" if repeated else ""
    return f"{name}: frames {indices[0]} to {indices[-1]}, {indices[1] - indices[0]} apart{end}"
