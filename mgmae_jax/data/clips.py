"""Which frames of a video make a pre-training clip."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """The shape of a clip.

    Attributes:
      frames: number of frames, T.
      stride: frames of the video from one frame of the clip to the next.
      size: height and width in pixels, S.
    """

    frames: int
    stride: int
    size: int


def pretrain_indices(num_frames: int, *, clip_frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """Samples the frames of a pre-training clip, as the official VideoMAE and MGMAE programs do.

    The start is uniform over all places where `clip_frames * stride` frames fit; a shorter video starts at 0. The step
    stops before the last frame of the video (index `num_frames - 1`), and the frame reached by then is repeated.

    Args:
      num_frames: length of the video, at least 1.
      clip_frames: length of the clip.
      stride: frames from one frame of the clip to the next.
      rng: draws the start.

    Returns:
      int32 [clip_frames], non-decreasing, each below `num_frames`.
    """
    start = int(rng.integers(max(num_frames - clip_frames * stride, 0) + 1))
    steps = max(num_frames - 2 - start, 0) // stride
    return (start + stride * np.minimum(np.arange(clip_frames), steps)).astype(np.int32)
