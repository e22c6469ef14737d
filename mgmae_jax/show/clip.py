"""The clip shown in a picture: from a video file, or procedural."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from mgmae_jax.data.augment import CropBox, crop_resize
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import FlowSpec, clip_steps, stored_clip_flow
from mgmae_jax.data.stored_clips import PackedClipFlow
from mgmae_jax.data.stored_flow import StoredFlow, cell_grid
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import MgmaeError


def video_clip(path: str | os.PathLike[str], spec: ClipSpec, start: int | None) -> tuple[np.ndarray, str]:
    """Reads a clip from a file, cropped to the largest centred square of its frames.

    Args:
      path: a video file.
      spec: the shape of the clip; the last frame of a shorter video is repeated.
      start: first frame; None puts the clip in the middle of the video.

    Returns:
      uint8 [T, S, S, 3], RGB, and a title that says which frames they are.

    Raises:
      VideoError: the file is not a video.
      MgmaeError: it has no frame `start`.
    """
    with open_video(path) as video:
        indices = clip_indices(video.frames, spec, start)
        frames = video.decode(indices)
    return crop_resize(frames, _centred(*frames.shape[1:3]), spec.size), _title(Path(path).name, indices)


def video_flow(path: str | os.PathLike[str], spec: ClipSpec, start: int | None, flow: FlowSpec) -> PackedClipFlow:
    """The flow of the clip that `video_clip` reads, from the video's file of flow or its motion vectors.

    Args:
      path: as for `video_clip`, and so are spec and start.
      spec: the shape of the clip.
      start: first frame, or None.
      flow: what to read, and from where.

    Returns:
      Flow of T-1 pairs, or [2, T-1]; see `data.pretrain_clips.pretrain_batches`.

    Raises:
      FileError: the file of flow is missing, damaged or of another video; the video has no motion vectors; or as for
        `video_clip`.
      MgmaeError: the video has no frame `start`.
    """
    with open_video(path) as video:
        indices = clip_indices(video.frames, spec, start)
        steps, frame_size = clip_steps(video, path, flow, indices), video.frame_size
    return stored_clip_flow(steps, indices, flow, _centred(*frame_size), frame_size)


def motion_shapes_clip(name: str, seed: int, spec: ClipSpec, start: int | None) -> tuple[np.ndarray, str]:
    """Renders a clip of `datasets.motion_shapes`.

    Args:
      name: one of `motion_shapes.CLASSES`.
      seed: 0 or more; each gives a different video.
      spec: the shape of the clip. The video is as long as those of the dataset, or as the clip if that is longer.
      start: as for `video_clip`.

    Returns:
      As for `video_clip`.

    Raises:
      MgmaeError: the video has no frame `start`, the seed is negative, or the clip is smaller than 32 pixels.
    """
    asked = _asked(name, spec)
    indices = clip_indices(asked["frames"], spec, start)
    return motion_shapes.render(seed, 0, **asked).frames[indices], _title(f"Procedural video {name}", indices)


def motion_shapes_flow(name: str, seed: int, spec: ClipSpec, start: int | None, flow: FlowSpec) -> PackedClipFlow:
    """The true flow of the clip that `motion_shapes_clip` renders.

    Args:
      name: as for `motion_shapes_clip`, and so are seed, spec and start.
      seed: 0 or more.
      spec: the shape of the clip.
      start: first frame, or None.
      flow: what to compute.

    Returns:
      As for `video_flow`.

    Raises:
      MgmaeError: as for `motion_shapes_clip`.
    """
    asked = _asked(name, spec)
    indices = clip_indices(asked["frames"], spec, start)
    both = [motion_shapes.true_flow(seed, 0, **asked, backward=backward) for backward in (False, True)]
    stored = StoredFlow(np.stack(both, 1), 0, cell_grid(*asked["size"]))
    return stored_clip_flow(stored, indices, flow, _centred(*asked["size"]), asked["size"])


def clip_indices(num_frames: int, spec: ClipSpec, start: int | None) -> np.ndarray:
    """The frames of a clip that begins at `start`, or is in the middle: int [T], each below `num_frames`.

    Raises:
      MgmaeError: the start is not a frame of the video.
    """
    offsets = spec.stride * np.arange(spec.frames)
    if start is None:
        start = max(num_frames - 1 - int(offsets[-1]), 0) // 2
    if not 0 <= start < num_frames:
        raise MgmaeError(f"--start={start}: give a frame of the video, from 0 to {num_frames - 1}.")
    return np.minimum(start + offsets, num_frames - 1)


def _centred(height: int, width: int) -> CropBox:
    """The largest square in the middle of a frame."""
    side = min(height, width)
    return CropBox((height - side) // 2, (width - side) // 2, side, side)


def _asked(name: str, spec: ClipSpec) -> dict[str, Any]:
    """The arguments of `motion_shapes.render` other than the seed."""
    length = max(40, spec.stride * (spec.frames - 1) + 1)
    return {"size": (spec.size, spec.size), "frames": length, "label": motion_shapes.CLASSES.index(name)}


def _title(name: str, indices: np.ndarray) -> str:
    if len(indices) == 1:
        return f"{name}: frame {indices[0]}"
    repeated = int((np.diff(indices) == 0).sum())
    end = f", the last {repeated + 1} times (the video is short)" if repeated else ""
    return f"{name}: frames {indices[0]} to {indices[-1]}, {indices[1] - indices[0]} apart{end}"
