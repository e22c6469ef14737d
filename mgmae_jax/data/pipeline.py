"""Batches of pre-training clips from video files, read by Grain.

The example at position p is a pure function of (seed, p), so a run resumes at a step without any state of an iterator,
on any number of processes and workers.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence

import grain
import numpy as np

from mgmae_jax.data.augment import crop_resize, multi_scale_crop_box
from mgmae_jax.data.clips import ClipSpec, pretrain_indices
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.workers import WorkerBatches, with_workers
from mgmae_jax.errors import ConfigError, MgmaeError, VideoError
from mgmae_jax.flow.tvl1 import tvl1_flow
from mgmae_jax.ops.pairs import Direction, adjacent_pairs, neighbour_pairs

MAX_TRIES = 16  # Positions tried for one example before the data set is given up.
# What a worker says of the bad videos that it met. Text of a fixed size, so that examples stack.
_BAD = np.dtype([("video", np.int64), ("reason", "S240")])


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
) -> PretrainBatches:
    """Reads the batches of this process, endlessly, from `start_step` on.

    Position `step * batch_size + i` holds a video of an endless sequence of shuffled epochs. Process h of H gets the
    h-th of H equal runs of positions in every step, so that the processes' batches in order are the same for every H.
    A bad video's place is taken by the next position that can be read.

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
    if batch_size < 1 or batch_size % process_count:
        raise ConfigError("train.batch_size", batch_size, f"a multiple of the number of processes, {process_count}")
    if not 0 <= seed < 2**32:
        raise ConfigError("seed", seed, "a whole number from 0 to 2**32 - 1")
    if flow is not None and flow.base is not None and not 0 <= flow.base < clip.frames:
        raise ConfigError("mask.base_frame", flow.base, f"a frame of the clip, from 0 to {clip.frames - 1}")
    local = batch_size // process_count
    examples = _Examples(videos, clip, views, seed, flow, batch_size, local, process_index)
    dataset = with_workers(grain.MapDataset.range(start_step * local, sys.maxsize).map(examples), workers)
    return PretrainBatches(dataset.batch(local, drop_remainder=True, batch_fn=_joined), videos, on_bad)


class PretrainBatches(WorkerBatches):
    """Batches of pre-training clips; made by `pretrain_batches`."""

    def __init__(self, dataset: grain.IterDataset, videos: VideoList, on_bad: Callable[[str, str], None]) -> None:
        super().__init__(dataset)
        self._videos, self._on_bad = videos, on_bad
        self._seen: set[int] = set()

    def __next__(self) -> dict[str, np.ndarray]:
        batch = super().__next__()
        for video, reason in batch.pop("bad"):
            if video >= 0 and video not in self._seen:
                self._seen.add(int(video))
                self._on_bad(self._videos.paths[video], reason.decode(errors="ignore"))
        return batch


@dataclasses.dataclass(frozen=True)
class _Examples:
    """Example number n of this process, for Grain's `map`; travels to the workers."""

    videos: VideoList
    clip: ClipSpec
    views: int
    seed: int
    flow: FlowSpec | None
    batch_size: int
    local: int
    process_index: int

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        """Reads the example at this number's position, or at the next where the video can be read."""
        step, i = divmod(number, self.local)
        first = step * self.batch_size + self.process_index * self.local + i
        bad = np.zeros(MAX_TRIES, _BAD)
        bad["video"] = -1
        for attempt, position in enumerate(range(first, first + MAX_TRIES)):
            video = self._video_at(position)
            try:
                return {**self._read(self.videos.paths[video], position), "bad": bad}
            except VideoError as error:
                bad[attempt] = video, error.reason.encode(errors="replace")[: _BAD["reason"].itemsize]
        names = dict.fromkeys(self.videos.paths[video] for video in bad["video"])
        raise MgmaeError(
            f"{MAX_TRIES} videos in a row cannot be read, from position {first} on (the last: "
            f"{bad['reason'][-1].decode(errors='ignore')}):\n" + "\n".join(f"  {name}" for name in names)
        )

    def _video_at(self, position: int) -> int:
        """Index of the video at a position of the endless sequence of shuffled epochs."""
        epoch, place = divmod(position, len(self.videos))
        (epoch_seed,) = _seed_sequence(self.seed, _ORDER, epoch).generate_state(1)
        return grain.experimental.index_shuffle(place, max_index=len(self.videos) - 1, seed=int(epoch_seed), rounds=4)

    def _read(self, path: str, position: int) -> dict[str, np.ndarray]:
        """Returns "clip" [views, T, S, S, 3] and perhaps "flow" [views, ...]."""
        clip = self.clip
        rng = np.random.default_rng(_seed_sequence(self.seed, _TIME, position))
        with open_video(path) as video:
            frames = video.decode(pretrain_indices(video.frames, clip_frames=clip.frames, stride=clip.stride, rng=rng))
        crops = []
        for view in range(self.views):
            rng = np.random.default_rng(_seed_sequence(self.seed, _CROP, position, view))
            box = multi_scale_crop_box(*frames.shape[1:3], rng=rng, size=clip.size)
            crops.append(crop_resize(frames, box, clip.size))
        example = {"clip": np.stack(crops)}
        if self.flow is not None:
            example["flow"] = np.stack([tvl1_clip_flow(crop, self.flow) for crop in crops])
        return example


# Names of the random streams.
_ORDER, _TIME, _CROP = range(3)


def _seed_sequence(seed: int, *key: int) -> np.random.SeedSequence:
    # As a spawn key, because default_rng([seed, n]) and default_rng([seed, n, 0]) are one and the same.
    return np.random.SeedSequence(seed, spawn_key=key)


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


def _joined(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([example[name] for example in examples]) for name in examples[0]}
