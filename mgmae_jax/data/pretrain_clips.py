"""Batches of pre-training clips from video files. Workers are spawned processes: they import this module again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from mgmae_jax.data.augment import CropBox, crop_resize, multi_scale_crop_box
from mgmae_jax.data.batches import BatchSpec, TrainBatches, random_stream, train_batches
from mgmae_jax.data.decode import Readable, open_video
from mgmae_jax.data.frames import ClipSpec, pretrain_indices
from mgmae_jax.data.host_flow import tvl1_flow
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.stored_flow import StoredFlow, clip_flow, flow_path, read_flow
from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.pairs import Direction, adjacent_pairs, neighbour_pairs


@dataclasses.dataclass(frozen=True)
class FlowSpec:
    """The flow that comes with the clips.

    Attributes:
      base: the base frame; None requests both directions of every pair, for a base frame that is chosen later.
      direction: which way the flow goes; see `ops.pairs.neighbour_pairs`. Ignored without a base frame.
      fast: see `data.host_flow.tvl1_flow`.
      source: "tvl1", Dual TV-L1, computed from the crops; "stored", read from the video's file of flow.
      root: the folder of the videos; see `stored_flow.flow_path`.
      folder: the folder of their stored flow; "" means beside each video.
    """

    base: int | None
    direction: Direction = "to_base"
    fast: bool = False
    source: Literal["tvl1", "stored"] = "tvl1"
    root: str = ""
    folder: str = ""

    def pairs(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """The frames of a clip in which flow starts and those in which it ends: int32 [T-1], or [2, T-1]."""
        if self.base is None:
            return adjacent_pairs(frames)
        return neighbour_pairs(frames, self.base, self.direction)


def pretrain_batches(
    videos: VideoList,
    clip: ClipSpec,
    spec: BatchSpec,
    *,
    start_step: int,
    flow: FlowSpec | None,
    on_bad: Callable[[str, str], None],
) -> TrainBatches:
    """Reads this process's pre-training batches from `start_step` on, endlessly; see `train_batches`.

    Args:
      videos: at least one.
      clip: the shape of the clips.
      spec: how the batches are composed.
      start_step: the step of the first batch.
      flow: the flow that comes with the clips, or None.
      on_bad: called with path and reason when a bad video is first met. An exception that it raises ends the iteration.

    Returns:
      An iterator over dicts; close it, or use it as a context manager. With the n clips of this process,
      video by video and view by view: "clip", uint8 [n, T, S, S, 3], RGB; and with `flow`, "flow", float32
      [n, T-1, S, S, 2] in the order of `ops.pairs.neighbour_pairs`, or with `base=None` [n, 2, T-1, S, S, 2] in that
      of `ops.pairs.adjacent_pairs`. Iterating raises MgmaeError if 16 positions in a row hold bad videos, or if the
      stored flow of a good one is missing, damaged or of another video.

    Raises:
      ConfigError: the batch cannot be divided over the devices, or another number is out of range.
    """
    if flow is not None and flow.base is not None and not 0 <= flow.base < clip.frames:
        raise ConfigError("mask.base_frame", flow.base, f"a frame of the clip, from 0 to {clip.frames - 1}")
    return train_batches(
        videos,
        _PretrainClips(clip, spec.views, spec.seed, flow),
        spec,
        start_step=start_step,
        on_bad=on_bad,
    )


@dataclasses.dataclass(frozen=True)
class _PretrainClips:
    """Makes examples; see `batches.Read`."""

    clip: ClipSpec
    views: int
    seed: int
    flow: FlowSpec | None

    def __call__(self, item: Readable, label: int | None, position: int) -> dict[str, np.ndarray]:
        """Returns "clip" [views, T, S, S, 3] and, if requested, "flow" [views, ...]."""
        clip, rng = self.clip, random_stream(self.seed, "time", position)
        with open_video(item) as video:
            indices = pretrain_indices(video.frames, clip_frames=clip.frames, stride=clip.stride, rng=rng)
            frames = video.decode(indices)
        frame_size = frames.shape[1:3]
        streams = [random_stream(self.seed, "crop", position, view) for view in range(self.views)]
        boxes = [multi_scale_crop_box(*frame_size, rng=rng, size=clip.size) for rng in streams]
        crops = [crop_resize(frames, box, clip.size) for box in boxes]
        example = {"clip": np.stack(crops)}
        if self.flow is not None and self.flow.source == "stored":
            stored = read_clip_flow(str(item), self.flow, video.frames, frame_size, indices)
            example["flow"] = np.stack([stored_clip_flow(stored, indices, self.flow, box, clip.size) for box in boxes])
        elif self.flow is not None:
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
    source, target = flow.pairs(len(frames))
    result = tvl1_flow(frames, source.ravel(), target.ravel(), fast=flow.fast)
    return result.reshape(*source.shape, *result.shape[1:])


def read_clip_flow(
    video: str, flow: FlowSpec, frames: int, frame_size: tuple[int, int], indices: np.ndarray
) -> StoredFlow:
    """Reads the stored flow of a video from the first to the last frame of a clip; see `stored_flow.read_flow`."""
    path = flow_path(video, flow.root, flow.folder)
    first, last = int(indices[0]), int(indices[-1])
    return read_flow(path, video, frames=frames, frame_size=frame_size, first=first, last=last)


def stored_clip_flow(stored: StoredFlow, indices: np.ndarray, flow: FlowSpec, box: CropBox, size: int) -> np.ndarray:
    """Stored flow of one crop of a clip.

    Args:
      stored: the flow between the clip's frames.
      indices: int [T], their numbers in the video.
      flow: what to read.
      box: the crop, in pixels of the video.
      size: the side that it is resized to.

    Returns:
      As for `tvl1_clip_flow`, in pixels of the resized crop.
    """
    source, target = flow.pairs(len(indices))
    result = clip_flow(stored, indices, source.ravel(), target.ravel(), box, size)
    return result.reshape(*source.shape, *result.shape[1:])
