"""Batches of pre-training clips from video files. Workers are spawned processes: they import this module again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from mgmae_jax.data.augment import crop_resize, multi_scale_crop_box
from mgmae_jax.data.clips import ClipSpec, pretrain_indices
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.train_batches import TrainBatches, random_stream, train_batches
from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.tvl1 import tvl1_flow
from mgmae_jax.ops.pairs import Direction, adjacent_pairs, neighbour_pairs


@dataclasses.dataclass(frozen=True)
class FlowSpec:
    """Dual TV-L1 flow to be computed with the clips.

    Attributes:
      base: the base frame; None computes both directions of every pair, for a base frame that is chosen later.
      direction: which way the flow goes; see `ops.pairs.neighbour_pairs`. Has no meaning without a base frame.
      fast: see `flow.tvl1.tvl1_flow`.
    """

    base: int | None
    direction: Direction = "to_base"
    fast: bool = False


def pretrain_batches(
    videos: VideoList,
    clip: ClipSpec,
    *,
    batch_size: int,
    views: int,
    seed: int,
    workers: int,
    start_step: int,
    process_index: int,
    process_count: int,
    flow: FlowSpec | None,
    on_bad: Callable[[str, str], None],
) -> TrainBatches:
    """Reads the pre-training batches of this process, endlessly, from `start_step` on; see `train_batches`.

    Args:
      videos: at least one.
      clip: the shape of the clips.
      batch_size: videos in a step, over all processes.
      views: crops of each video's clip.
      seed: from 0 to 2**32 - 1.
      workers: processes that read; 0 reads in threads of this one. Has no influence on the batches.
      start_step: the step of the first batch.
      process_index: this process, from 0.
      process_count: how many processes share the batch.
      flow: the flow to compute, or None.
      on_bad: called with path and reason when a bad video is first met. What it raises ends the iteration.

    Returns:
      An iterator over dicts; close it, or use it as a context manager. With n = batch_size / process_count * views,
      video by video and view by view: "clip", uint8 [n, T, S, S, 3], RGB; and with `flow` "flow", float32
      [n, T-1, S, S, 2] in the order of `ops.pairs.neighbour_pairs`, or with `base=None` [n, 2, T-1, S, S, 2] in that
      of `ops.pairs.adjacent_pairs`. Iterating raises MgmaeError where 16 positions in a row hold bad videos.

    Raises:
      ConfigError: the batch cannot be divided among the processes, or another number is out of range.
    """
    if flow is not None and flow.base is not None and not 0 <= flow.base < clip.frames:
        raise ConfigError("mask.base_frame", flow.base, f"a frame of the clip, from 0 to {clip.frames - 1}")
    return train_batches(
        videos,
        _PretrainClips(clip, views, seed, flow),
        batch_size=batch_size,
        seed=seed,
        workers=workers,
        start_step=start_step,
        process_index=process_index,
        process_count=process_count,
        on_bad=on_bad,
    )


@dataclasses.dataclass(frozen=True)
class _PretrainClips:
    """Makes examples; see `train_batches.Read`."""

    clip: ClipSpec
    views: int
    seed: int
    flow: FlowSpec | None

    def __call__(self, path: str, label: int | None, position: int) -> dict[str, np.ndarray]:
        """Returns "clip" [views, T, S, S, 3] and perhaps "flow" [views, ...]."""
        clip, rng = self.clip, random_stream(self.seed, "time", position)
        with open_video(path) as video:
            frames = video.decode(pretrain_indices(video.frames, clip_frames=clip.frames, stride=clip.stride, rng=rng))
        crops = []
        for view in range(self.views):
            rng = random_stream(self.seed, "crop", position, view)
            box = multi_scale_crop_box(*frames.shape[1:3], rng=rng, size=clip.size)
            crops.append(crop_resize(frames, box, clip.size))
        example = {"clip": np.stack(crops)}
        if self.flow is not None:
            example["flow"] = np.stack([tvl1_clip_flow(crop, self.flow) for crop in crops])
        return example


def tvl1_clip_flow(frames: np.ndarray, flow: FlowSpec) -> np.ndarray:
    """Dual TV-L1 flow of one clip.

    Args:
      frames: uint8 [T, S, S, 3], RGB.
      flow: what to compute.

    Returns:
      float32 [T-1, S, S, 2], or [2, T-1, S, S, 2] without a base frame; see `pretrain_batches`.
    """
    if flow.base is None:
        source, target = adjacent_pairs(len(frames))
    else:
        source, target = neighbour_pairs(len(frames), flow.base, flow.direction)
    result = tvl1_flow(frames, source.ravel(), target.ravel(), fast=flow.fast)
    return result.reshape(*source.shape, *result.shape[1:])
