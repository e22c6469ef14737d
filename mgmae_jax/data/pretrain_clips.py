"""Batches of pre-training clips from video files. Workers are spawned processes: they import this module again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from mgmae_jax.data.augment import CropBox, crop_resize, multi_scale_crop_box
from mgmae_jax.data.batches import BatchSpec, TrainBatches, random_stream, train_batches
from mgmae_jax.data.codec_flow import WINDOW, decode_with_flow
from mgmae_jax.data.decode import Item, OpenVideo, Readable, Video, open_video
from mgmae_jax.data.flow_places import find_flow, video_facts
from mgmae_jax.data.frame_cache import FrameCache, cached_frames
from mgmae_jax.data.frames import ClipSpec, pretrain_indices
from mgmae_jax.data.host_flow import HostMethod, host_flow
from mgmae_jax.data.records import Records
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.stored_clips import MARGIN, PackedClipFlow, clip_flow, window_size
from mgmae_jax.data.stored_flow import StoredFlow, grid_shape, read_flow
from mgmae_jax.errors import ConfigError, FileError
from mgmae_jax.ops.pairs import Direction, adjacent_pairs, neighbour_pairs

_MOST_LOOKED_AT = 16  # videos at the beginning of the list that may have no flow, because they cannot be read


@dataclasses.dataclass(frozen=True)
class FlowSpec:
    """The flow that comes with the clips.

    Attributes:
      base: the base frame; None requests both directions of every pair, for a base frame that is chosen later.
      direction: which way the flow goes; see `ops.pairs.neighbour_pairs`. Ignored without a base frame.
      fast: see `data.host_flow.host_flow`.
      source: "tvl1" or "dis", computed from the crops; "stored", read from the video's file of flow; "codec", made of
        the motion vectors in the video.
      root: the folder of the videos; see `flow_places.flow_path`.
      folder: the folder of their stored flow; "" means beside each video.
      window: how many rows and columns of the videos' grids a crop takes; see `stored_clips.window_size`. 0 takes that
        of the first video with flow.
    """

    base: int | None
    direction: Direction = "to_base"
    fast: bool = False
    source: HostMethod | Literal["stored", "codec"] = "tvl1"
    root: str = ""
    folder: str = ""
    window: int = 0

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
    cache: FrameCache | None = None,
    whole: int | None = None,
) -> TrainBatches:
    """Reads this process's pre-training batches from `start_step` on, endlessly; see `train_batches`.

    Args:
      videos: at least one.
      clip: the shape of the clips.
      spec: how the batches are composed.
      start_step: the step of the first batch.
      flow: the flow that comes with the clips, or None.
      on_bad: called with path and reason when a bad video is first met. An exception that it raises ends the iteration.
      cache: where decoded frames are kept, or None. It does not affect the batches.
      whole: also give the whole frames, squeezed to squares with sides of so many pixels.

    Returns:
      An iterator over dicts; close it, or use it as a context manager. With the n clips of this process,
      video by video and view by view: "clip", uint8 [n, T, S, S, 3], RGB; and with `flow`, "flow", float32
      [n, T-1, S, S, 2] in the order of `ops.pairs.neighbour_pairs`, or with `base=None` [n, 2, T-1, S, S, 2] in that
      of `ops.pairs.adjacent_pairs`. Stored and codec flow come on a grid: "flow" is uint8 [..., g, g, 2], with
      "flow_span" and "flow_place", see `stored_clips.PackedClipFlow`. With `whole`, "whole", uint8 [n / views, T,
      whole, whole, 3], and "whole_place", float32 [n, 2, 2], see `crop_place`. Iterating raises MgmaeError if 16
      positions in a row hold bad videos, or if the stored flow of a good one is missing, damaged or of another video.

    Raises:
      ConfigError: the batch cannot be divided over the devices, or another number is out of range.
      FileError: none of the first videos has stored flow.
    """
    if flow is not None and flow.base is not None and not 0 <= flow.base < clip.frames:
        raise ConfigError("mask.base_frame", flow.base, f"a frame of the clip, from 0 to {clip.frames - 1}")
    if flow is not None and flow.source == "stored" and not flow.window:
        flow = dataclasses.replace(flow, window=_find_window(videos, flow))
    if flow is not None and flow.source == "codec":
        flow = dataclasses.replace(flow, window=WINDOW)
    return train_batches(
        videos,
        _PretrainClips(clip, spec.views, spec.seed, flow, cache, whole),
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
    cache: FrameCache | None = None
    whole: int | None = None

    def __call__(self, item: Readable, label: int | None, position: int) -> dict[str, np.ndarray]:
        """Returns "clip" [views, T, S, S, 3] and, if requested, "flow" [views, ...] and "whole" [1, ...]."""
        clip, rng = self.clip, random_stream(self.seed, "time", position)
        with open_video(item) as video:
            indices = pretrain_indices(video.frames, clip_frames=clip.frames, stride=clip.stride, rng=rng)
            # Once for all its views.
            cache, steps = self.cache, None
            if self.flow is not None and self.flow.source == "codec":
                frames, steps = decode_with_flow(video, item, indices)  # a cache would keep no motion vectors
            else:
                frames = video.decode(indices) if cache is None else cached_frames(video, item, indices, cache)
            if self.flow is not None and self.flow.source == "stored":
                steps = read_steps(video, item, self.flow, indices)
        frame_size = frames.shape[1:3]
        streams = [random_stream(self.seed, "crop", position, view) for view in range(self.views)]
        boxes = [multi_scale_crop_box(*frame_size, rng=rng, size=clip.size) for rng in streams]
        crops = [crop_resize(frames, box, clip.size) for box in boxes]
        example = {"clip": np.stack(crops)}
        if self.whole is not None:
            everything = CropBox(0, 0, *frame_size)
            example["whole"] = crop_resize(frames, everything, self.whole)[None]
            example["whole_place"] = np.stack([crop_place(box, frame_size) for box in boxes])
        if self.flow is not None and steps is not None:
            packed = [stored_clip_flow(steps, indices, self.flow, box, frame_size) for box in boxes]
            parts = (np.stack(part) for part in zip(*packed, strict=True))
            example |= dict(zip(("flow", "flow_span", "flow_place"), parts, strict=True))
        elif self.flow is not None:
            example["flow"] = np.stack([host_clip_flow(crop, self.flow) for crop in crops])
        return example


def crop_place(box: CropBox, frame_size: tuple[int, int]) -> np.ndarray:
    """Where a crop lies: float32 [2, 2], row, then column, of its beginning and its length, in sides of the frame."""
    height, width = frame_size
    return np.array([[box.y / height, box.height / height], [box.x / width, box.width / width]], np.float32)


def host_clip_flow(frames: np.ndarray, flow: FlowSpec) -> np.ndarray:
    """The flow of one clip by TV-L1 or DIS.

    Args:
      frames: uint8 [T, S, S, 3], RGB.
      flow: what to compute.

    Returns:
      float32 [T-1, S, S, 2], or [2, T-1, S, S, 2] without a base frame; see `pretrain_batches`.
    """
    assert flow.source in ("tvl1", "dis")
    source, target = flow.pairs(len(frames))
    result = host_flow(frames, source.ravel(), target.ravel(), flow.source, fast=flow.fast)
    return result.reshape(*source.shape, *result.shape[1:])


def clip_steps(video: OpenVideo, item: Readable, flow: FlowSpec, indices: np.ndarray) -> StoredFlow:
    """The flow of a clip of a video, stored or of its codec; see `read_steps` and `codec_flow.decode_with_flow`."""
    if flow.source == "codec":
        return decode_with_flow(video, item, indices)[1]
    return read_steps(video, item, flow, indices)


def read_steps(video: OpenVideo, item: Readable, flow: FlowSpec, indices: np.ndarray) -> StoredFlow:
    """Reads the stored flow of a video from the first to the last frame of a clip.

    Args:
      video: the open video.
      item: what was opened.
      flow: what to read.
      indices: int [T], the frames of the clip.

    Raises:
      FileError: see `stored_flow.read_flow`; or the flow's grid is not that of the other videos.
    """
    inside = video.record.values.get("flow") if isinstance(video, Video) and video.record is not None else None
    place = find_flow(item, inside, flow.root, flow.folder)
    stored = read_flow(place, str(item), video_facts(video, item), int(indices[0]), int(indices[-1]))
    found = window_size((stored.steps.shape[2], stored.steps.shape[3]))
    if flow.window not in (0, found):
        raise FileError(
            str(item),
            f"has flow of {found - MARGIN} points on the shorter side, and the first video of {flow.window - MARGIN}: "
            "compute it again by `mgmae flow` with one --size for all",
        )
    return stored


def stored_clip_flow(
    stored: StoredFlow, indices: np.ndarray, flow: FlowSpec, box: CropBox, frame_size: tuple[int, int]
) -> PackedClipFlow:
    """Stored flow of one crop of a clip.

    Args:
      stored: the flow between the clip's frames.
      indices: int [T], their numbers in the video.
      flow: what to read.
      box: the crop, in pixels of the video.
      frame_size: height and width of the video's frames.

    Returns:
      Flow of T-1 pairs, or [2, T-1] without a base frame; see `pretrain_batches`.
    """
    source, target = flow.pairs(len(indices))
    window = flow.window or window_size((stored.steps.shape[2], stored.steps.shape[3]))
    packed = clip_flow(stored, indices, source.ravel(), target.ravel(), box, frame_size, window)
    values, span = (part.reshape(*source.shape, *part.shape[1:]) for part in packed[:2])
    return PackedClipFlow(values, span, packed.place)


def _find_window(videos: VideoList, flow: FlowSpec) -> int:
    """The window of the first video that has flow, of the first few."""
    first: FileError | None = None
    for index in range(min(len(videos), _MOST_LOOKED_AT)):
        item = videos.item(index)
        try:
            inside = (
                item.opener.record(item.name) if isinstance(item, Item) and isinstance(item.opener, Records) else None
            )
            place = find_flow(item, None if inside is None else inside.values.get("flow"), flow.root, flow.folder)
            return window_size(grid_shape(place, str(item)))
        except FileError as error:
            first = first or error
    assert first is not None
    raise first
