"""The views that a video is tested on: clips spread over its duration, cropped at several places along its longer
side."""

from __future__ import annotations

import dataclasses
from typing import Literal

import cv2
import numpy as np

from mgmae_jax.data.decode import Readable, open_video
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.errors import ConfigError

Sampling = Literal["uniform", "dense"]


@dataclasses.dataclass(frozen=True)
class ViewSpec:
    """How a video is seen: Something-Something takes 2 uniform clips and 3 crops, Kinetics 5 dense ones and 3.

    Attributes:
      clip: the shape of every view; uniform clips ignore its stride.
      sampling: "uniform": each clip spans the whole video; "dense": frames `stride` apart.
      clips: number of clips in time; a single one is in the middle.
      crops: number of crops in space; a single one is in the centre.

    Raises:
      ConfigError: a field has a value that cannot work.
    """

    clip: ClipSpec
    sampling: Sampling = "uniform"
    clips: int = 1
    crops: int = 1

    def __post_init__(self) -> None:
        if self.sampling not in ("uniform", "dense"):
            raise ConfigError("eval.sampling", self.sampling, "one of uniform, dense")
        for field in ("clips", "crops"):
            if getattr(self, field) < 1:
                raise ConfigError(f"eval.{field}", getattr(self, field), "1 or more")

    @property
    def count(self) -> int:
        """Number of views of a video, V."""
        return self.clips * self.crops


def uniform_indices(num_frames: int, *, clip_frames: int, clips: int) -> np.ndarray:
    """The frames of clips that each span the whole video, shifted relative to each other.

    With tick = num_frames / clip_frames, frame x of clip c of C is int(tick * (x + c / C)): for two clips, these are
    the frames of the official programs. A single clip takes the middles of the ticks.

    Args:
      num_frames: length of the video, at least 1; a shorter video than `clip_frames` repeats frames.
      clip_frames: length of a clip, T.
      clips: how many.

    Returns:
      int32 [clips, T], non-decreasing along a clip, each below `num_frames`.
    """
    tick = num_frames / clip_frames
    shifts = np.array([0.5]) if clips == 1 else np.arange(clips) / clips
    return (tick * shifts[:, None] + tick * np.arange(clip_frames)).astype(np.int32)


def dense_indices(num_frames: int, *, clip_frames: int, stride: int, clips: int) -> np.ndarray:
    """The frames of clips that are spread evenly over the video, from its first strided frame to its last.

    A video that is too short repeats its last frame at a multiple of the stride, as the official programs
    do. A single clip is in the middle.

    Args:
      num_frames: length of the video, at least 1.
      clip_frames: length of a clip, T.
      stride: distance of successive frames of a clip, in frames of the video.
      clips: how many.

    Returns:
      int32 [clips, T], non-decreasing along a clip, each below `num_frames`.
    """
    strided = -(-num_frames // stride)
    room = max(strided - clip_frames, 0)
    starts = np.array([room // 2]) if clips == 1 else (np.arange(clips) * (room / (clips - 1))).astype(np.int64)
    return (np.minimum(starts[:, None] + np.arange(clip_frames), strided - 1) * stride).astype(np.int32)


def crop_starts(length: int, *, size: int, crops: int) -> list[int]:
    """Where the crops begin along the longer side: from one end to the other; a single crop is in the centre.

    Args:
      length: that side in pixels, at least `size`.
      size: the side of a crop.
      crops: how many.
    """
    if crops == 1:
        return [(length - size) // 2]
    return [int(crop * ((length - size) / (crops - 1))) for crop in range(crops)]


def shorter_side_to(frames: np.ndarray, size: int) -> np.ndarray:
    """Resizes frames so that their shorter side is `size`, keeping the shape.

    Bilinear without averaging: the official programs test like this, and published weights expect it.

    Args:
      frames: uint8 [T, H, W, 3].
      size: the shorter side, in pixels.

    Returns:
      uint8 [T, h, w, 3] with min(h, w) = size.
    """
    height, width = frames.shape[1:3]
    if min(height, width) == size:
        return frames
    target = (size, int(size * height / width)) if width < height else (int(size * width / height), size)
    return np.stack([cv2.resize(frame, target, interpolation=cv2.INTER_LINEAR) for frame in frames])


def cut_views(frames: np.ndarray, *, size: int, crops: int) -> np.ndarray:
    """Cuts square crops along the longer side of frames whose shorter side is `size`.

    Args:
      frames: uint8 [T, H, W, 3].
      size: the side of a crop, in pixels.
      crops: how many.

    Returns:
      uint8 [crops, T, size, size, 3].
    """
    height, width = frames.shape[1:3]
    starts = crop_starts(max(height, width), size=size, crops=crops)
    if height > width:
        return np.stack([frames[:, start : start + size] for start in starts])
    return np.stack([frames[:, :, start : start + size] for start in starts])


def read_views(item: Readable, views: ViewSpec) -> np.ndarray:
    """Decodes a video once and makes all its views.

    Args:
      item: the video.
      views: which views.

    Returns:
      uint8 [V, T, S, S, 3], RGB, clip by clip and within a clip crop by crop.

    Raises:
      VideoError: the file is missing, damaged or not a video.
    """
    clip = views.clip
    with open_video(item) as video:
        if views.sampling == "uniform":
            indices = uniform_indices(video.frames, clip_frames=clip.frames, clips=views.clips)
        else:
            indices = dense_indices(video.frames, clip_frames=clip.frames, stride=clip.stride, clips=views.clips)
        wanted, places = np.unique(indices, return_inverse=True)
        frames = shorter_side_to(video.decode(wanted), clip.size)
    return np.concatenate([cut_views(frames[row], size=clip.size, crops=views.crops) for row in places])
