"""Which frames of a video form a training clip."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """The shape of a clip.

    Attributes:
      frames: number of frames, T.
      stride: distance of successive frames of the clip, in frames of the video.
      size: height and width in pixels, S.
    """

    frames: int
    stride: int
    size: int


def pretrain_indices(num_frames: int, *, clip_frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """Samples the frames of a pre-training clip, as the official VideoMAE and MGMAE programs do.

    The start is uniform over all places where `clip_frames * stride` frames fit; a shorter video starts at 0. Stepping
    stops before the last frame of the video (index `num_frames - 1`), and the last frame reached is repeated.

    Args:
      num_frames: length of the video, at least 1.
      clip_frames: length of the clip.
      stride: distance of successive frames of the clip, in frames of the video.
      rng: draws the start.

    Returns:
      int32 [clip_frames], non-decreasing, each below `num_frames`.
    """
    start = int(rng.integers(max(num_frames - clip_frames * stride, 0) + 1))
    steps = max(num_frames - 2 - start, 0) // stride
    return (start + stride * np.minimum(np.arange(clip_frames), steps)).astype(np.int32)


def uniform_train_indices(num_frames: int, *, clip_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Samples a fine-tuning clip that spans the whole video: a random frame of each of `clip_frames` equal parts.

    Parts are whole numbers of frames, as in the official programs, so the last few frames of a video may belong to
    none. A video shorter than the clip gives sorted random frames (in the official programs, only its first frame).

    Args:
      num_frames: length of the video, at least 1.
      clip_frames: length of the clip.
      rng: draws the frames.

    Returns:
      int32 [clip_frames], non-decreasing, each below `num_frames`.
    """
    length = num_frames // clip_frames
    if not length:
        return np.sort(rng.integers(num_frames, size=clip_frames)).astype(np.int32)
    return (np.arange(clip_frames) * length + rng.integers(length, size=clip_frames)).astype(np.int32)


def dense_train_indices(num_frames: int, *, clip_frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """Samples a fine-tuning clip of neighbouring frames, as the official programs do.

    `clip_frames * stride` frames are taken from a random place, and `clip_frames` of them are spread evenly, from the
    first to the last. A shorter video is used whole, at about the stride, and its last frame is repeated.

    Args:
      num_frames: length of the video, at least 1.
      clip_frames: length of the clip.
      stride: approximate distance of successive frames of the clip, in frames of the video.
      rng: draws the place.

    Returns:
      int32 [clip_frames], non-decreasing, each below `num_frames`.
    """
    span = clip_frames * stride
    if num_frames > span:
        start = int(rng.integers(num_frames - span))
        return np.minimum(np.linspace(start, start + span, clip_frames), start + span - 1).astype(np.int32)
    spread = np.linspace(0, num_frames, num_frames // stride)
    rest = np.full(clip_frames - len(spread), num_frames)
    return np.minimum(np.concatenate([spread, rest]), num_frames - 1).astype(np.int32)
