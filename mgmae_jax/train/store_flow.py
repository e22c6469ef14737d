"""The flow of whole videos, computed once and stored in a file for each; see `data.stored_flow`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mgmae_jax.data.decode import OpenVideo, Readable, open_video
from mgmae_jax.data.flow_places import video_facts
from mgmae_jax.data.host_flow import HostMethod, host_flow
from mgmae_jax.data.stored_flow import Grid, cell_grid, corner_grid, has_flow, to_cells, write_flow
from mgmae_jax.errors import VideoError
from mgmae_jax.flow.clip_flow import grid_flow
from mgmae_jax.flow.raft import CELL
from mgmae_jax.flow.weights_hash import weights_hash
from mgmae_jax.ops.pairs import adjacent_pairs
from mgmae_jax.train.masks import FlowOptions

STEPS = 8
"""Steps from frame to frame that a method gets at once."""
_SIDES = 32  # multiples of the longer side in pixels: few programs are compiled, and no frame is squeezed by much
_LONGEST = 4  # times the shorter side


class Method(NamedTuple):
    """A way to compute the flow of videos.

    Attributes:
      name: what a file says of it.
      size: shorter side in pixels of the frames that it gets, a multiple of 8.
      flow: from at most STEPS + 1 frames, uint8 [n + 1, H, W, 3], to the flow between neighbours, float32 [2, n, H / 8,
        W / 8, 2], forwards and backwards, in steps of its grid; of NumPy or JAX.
      grid: the grid of frames of H x W pixels.
    """

    name: str
    size: int
    flow: Callable[[np.ndarray], Any]
    grid: Callable[[int, int], Grid]


def store_flows(
    videos: Sequence[Readable],
    place: Callable[[Readable], Path],
    method: Method,
    on_video: Callable[[int, bool], None],
) -> list[VideoError]:
    """Computes and writes the flow of videos that have none yet, so that the next call completes an interrupted one.

    Args:
      videos: the videos.
      place: returns the path of a video's flow.
      method: computes the flow.
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
            made = store_flow(video, place(video), method)
        except VideoError as error:
            failed.append(error)
        on_video(done, made)
    return failed


def store_flow(video: Readable, path: Path, method: Method) -> bool:
    """Writes the flow of one video to `path`, unless its flow by this method is there; returns whether it did.

    Raises:
      VideoError: the video cannot be read to its end.
      FileError: see `store_flows`.
    """
    with open_video(video) as opened:
        facts = video_facts(opened, video)
        if path.exists() and has_flow(path, str(video), facts, method.name):
            return False
        flow, grid = _whole_flow(opened, method)
    write_flow(path, flow, grid, facts, method.name)
    return True


def frame_sides(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of the frames that flow is computed on: a shorter side of `size`, almost the video's shape."""
    longer = round(size * max(height, width) / min(height, width) / _SIDES) * _SIDES
    longer = min(max(longer, size), _LONGEST * size)
    return (size, longer) if height <= width else (longer, size)


def raft_method(params: Mapping[str, Any], options: FlowOptions, size: int) -> Method:
    """RAFT-small, as one program for any number of frames of one shape.

    Args:
      params: the parameters of `RaftSmall`.
      options: the number of updates and the dtype.
      size: see `Method`; 64 or more.
    """
    source, target = (frames.ravel() for frames in adjacent_pairs(STEPS + 1))

    @jax.jit
    def both_ways(params: Mapping[str, Any], frames: Array) -> Array:
        low = grid_flow(params, frames, source, target, iters=options.iters, dtype=jnp.dtype(options.dtype))
        rows, columns = low.shape[1:3]
        # A step of the grid is a little less than 8 pixels: the outermost of them end at the outermost pixels' centres.
        steps = [CELL * (points - 1) / (CELL * points - 1) for points in (columns, rows)]
        return (low * jnp.array(steps, jnp.float32).reshape(1, 1, 1, 2)).reshape(2, STEPS, rows, columns, 2)

    def flow(frames: np.ndarray) -> Array:
        steps = len(frames) - 1
        padded = np.concatenate([frames, np.repeat(frames[-1:], STEPS - steps, 0)])
        found: Array = both_ways(params, padded)
        return found[:, :steps]

    name = f"RAFT-small {weights_hash(params)}, {options.iters} updates, {options.dtype}, {size} pixels"
    return Method(name, size, flow, lambda height, width: corner_grid(height // CELL, width // CELL, height, width))


def host_method(which: HostMethod, size: int, *, fast: bool) -> Method:
    """TV-L1 or DIS, averaged over cells of 8 pixels; for `fast` see `data.host_flow.host_flow`."""

    def flow(frames: np.ndarray) -> np.ndarray:
        source, target = adjacent_pairs(len(frames))
        dense = host_flow(frames, source.ravel(), target.ravel(), which, fast=fast)
        rows, columns = (side // CELL for side in frames.shape[1:3])
        return to_cells(dense, rows, columns).reshape(*source.shape, rows, columns, 2)

    name = f"{which}{' fast' if fast and which == 'tvl1' else ''}, {size} pixels"
    return Method(name, size, flow, lambda height, width: cell_grid(height // CELL, width // CELL))


def _whole_flow(video: OpenVideo, method: Method) -> tuple[np.ndarray, Grid]:
    """The flow of all a video's frames, float32 [F-1, 2, h, w, 2], and its grid."""
    height, width = frame_sides(*video.frame_size, method.size)
    parts = [np.empty((0, 2, height // CELL, width // CELL, 2), np.float32)]
    waiting = None
    for flow in itertools.chain(_in_parts(video.stream(), method, (width, height)), [None]):
        # Fetched once the next part is under way, so that the device and the decoder work at the same time.
        if waiting is not None:
            parts.append(np.asarray(waiting).swapaxes(0, 1))
        waiting = flow
    return np.concatenate(parts), method.grid(height, width)


def _in_parts(frames: Iterator[np.ndarray], method: Method, sides: tuple[int, int]) -> Iterator[Any]:
    """The flow of frames resized to width, height, STEPS steps at a time; each part begins with the last one's end."""
    kept: list[np.ndarray] = []
    for frame in frames:
        how = cv2.INTER_AREA if min(frame.shape[:2]) > min(sides) else cv2.INTER_LINEAR
        kept.append(cv2.resize(frame, sides, interpolation=how))
        if len(kept) == STEPS + 1:
            yield method.flow(np.stack(kept))
            kept = kept[-1:]
    if len(kept) > 1:
        yield method.flow(np.stack(kept))
