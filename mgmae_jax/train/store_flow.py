"""The flow of whole videos, computed once and stored in a file for each; see `data.stored_flow`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mgmae_jax.data.decode import Video, open_video, video_info
from mgmae_jax.data.host_flow import tvl1_flow
from mgmae_jax.data.stored_flow import cell_grid, has_flow, to_cells, write_flow
from mgmae_jax.errors import VideoError
from mgmae_jax.flow.clip_flow import pair_flow
from mgmae_jax.ops.pairs import adjacent_pairs
from mgmae_jax.train.masks import FlowOptions

Method = Callable[[np.ndarray], Any]
"""Flow between neighbours of at most STEPS + 1 frames, uint8 [n + 1, S, S, 3]: float32 [2, n, S, S, 2], forwards and
backwards, in their pixels; of NumPy or JAX."""
STEPS = 8
"""Steps from frame to frame that a method gets at once."""


def store_flows(
    videos: Sequence[str],
    place: Callable[[str], Path],
    method: Method,
    size: int,
    on_video: Callable[[int, bool], None],
) -> list[VideoError]:
    """Computes and writes the flow of videos that have none yet, so that the next call completes an interrupted one.

    Args:
      videos: the video files.
      place: returns the path of a video's flow.
      method: computes the flow.
      size: side in pixels of the square frames that the method gets.
      on_video: called after each video with the number of videos done, and whether this call made its flow.

    Returns:
      What was wrong with the videos that could not be read; they are skipped.

    Raises:
      FileError: a file of flow cannot be written, or would hold numbers that are not finite.
    """
    failed = []
    for done, video in enumerate(videos, start=1):
        made = False
        try:
            made = store_flow(video, place(video), method, size)
        except VideoError as error:
            failed.append(error)
        on_video(done, made)
    return failed


def store_flow(video: str, path: Path, method: Method, size: int) -> bool:
    """Writes the flow of one video to `path`, unless a file that fits the video is there; returns whether it did.

    Raises:
      VideoError: the video cannot be read to its end.
      FileError: see `store_flows`.
    """
    if path.exists():
        info = video_info(video)
        if has_flow(path, video, frames=info.frames, frame_size=(info.height, info.width)):
            return False
    with open_video(video) as opened:
        flow, frame_size = _whole_flow(opened, method, size)
    write_flow(path, flow, frame_size)
    return True


def raft_method(params: Mapping[str, Any], options: FlowOptions, size: int) -> Method:
    """RAFT-small, as one program for any number of frames.

    Args:
      params: the parameters of `RaftSmall`.
      options: the number of updates and the dtype.
      size: side in pixels of the frames, 64 or more.
    """
    source, target = (frames.ravel() for frames in adjacent_pairs(STEPS + 1))

    @jax.jit
    def both_ways(params: Mapping[str, Any], frames: Array) -> Array:
        dtype = jnp.dtype(options.dtype)
        flow = pair_flow(params, frames, source, target, iters=options.iters, size=size, dtype=dtype)
        return flow.reshape(2, STEPS, size, size, 2)

    def method(frames: np.ndarray) -> Array:
        steps = len(frames) - 1
        padded = np.concatenate([frames, np.repeat(frames[-1:], STEPS - steps, 0)])
        flow: Array = both_ways(params, padded)
        return flow[:, :steps]

    return method


def tvl1_method(fast: bool) -> Method:
    """Dual TV-L1, on the host; for `fast` see `data.host_flow.tvl1_flow`."""

    def method(frames: np.ndarray) -> np.ndarray:
        source, target = adjacent_pairs(len(frames))
        flow = tvl1_flow(frames, source.ravel(), target.ravel(), fast=fast)
        return flow.reshape(*source.shape, *flow.shape[1:])

    return method


def _whole_flow(video: Video, method: Method, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The flow of all a video's frames over its cells, float32 [2, F-1, h, w, 2], and the frames' height and width."""
    frames = video.stream()
    first = next(frames)
    frame_size = first.shape[:2]
    parts = [np.empty((2, 0, *cell_grid(*frame_size), 2), np.float32)]
    waiting = None
    for flow in itertools.chain(_in_parts(itertools.chain([first], frames), method, size), [None]):
        # Fetched once the next part is under way, so that the device and the decoder work at the same time.
        if waiting is not None:
            parts.append(np.stack([to_cells(row, frame_size) for row in np.asarray(waiting)]))
        waiting = flow
    return np.concatenate(parts, 1), frame_size


def _in_parts(frames: Iterator[np.ndarray], method: Method, size: int) -> Iterator[Any]:
    """The flow of resized frames, STEPS steps at a time; each part begins with the last one's final frame."""
    kept: list[np.ndarray] = []
    for frame in frames:
        how = cv2.INTER_AREA if min(frame.shape[:2]) > size else cv2.INTER_LINEAR
        kept.append(cv2.resize(frame, (size, size), interpolation=how))
        if len(kept) == STEPS + 1:
            yield method(np.stack(kept))
            kept = kept[-1:]
    if len(kept) > 1:
        yield method(np.stack(kept))
