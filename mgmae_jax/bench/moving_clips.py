"""Batches for measurements: textures that move at constant velocity, and their flow."""

import jax
import numpy as np

from mgmae_jax.masking.mask_input import base_frame
from mgmae_jax.ops.pairs import adjacent_pairs, neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.train.masks import MaskStep

_GRAIN = 4  # pixels to a side of one spot of the texture
_FASTEST = 4  # pixels a frame
_CELL = 8  # pixels between the points of stored flow


def moving_batch(masks: MaskStep, clips: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Makes a batch as the data pipeline would give it to this masking step.

    Args:
      masks: the masking step, which determines the size of the clips and whether the batch holds flow.
      clips: how many.
      seed: the seed of textures and velocities.

    Returns:
      "clip" uint8 [clips, T, H, W, 3], and the flow where the step takes it from the batch: see `MaskStep.batch_flow`.
    """
    grid = masks.grid
    rng = np.random.default_rng(seed)
    velocity = rng.integers(-_FASTEST, _FASTEST + 1, (clips, 2))
    spots = rng.integers(0, 256, (clips, -(-grid.height // _GRAIN), -(-grid.width // _GRAIN), 3), np.uint8)
    texture = spots.repeat(_GRAIN, 1).repeat(_GRAIN, 2)[:, : grid.height, : grid.width]
    frames = [
        [np.roll(image, (step * y, step * x), (0, 1)) for step in range(grid.frames)]
        for image, (x, y) in zip(texture, velocity, strict=True)
    ]
    batch = {"clip": np.array(frames)}
    if masks.needs_flow and not masks.runs_raft:
        flow = np.einsum("...,bc->b...c", _frame_steps(masks), velocity)
        if masks.flow_on_grid:
            return batch | _packed(flow, grid)
        shape = (*flow.shape[:-1], grid.height, grid.width, 2)
        batch["flow"] = np.ascontiguousarray(np.broadcast_to(flow[..., None, None, :], shape), np.float32)
    return batch


def _packed(flow: np.ndarray, grid: TokenGrid) -> dict[str, np.ndarray]:
    """Flow [clips, ..., P, 2] of one velocity for each pair as `data.stored_clips` packs it, a point for 8 pixels."""
    cells = np.array([grid.height, grid.width]) // _CELL
    points = int(cells.max()) + 2
    lowest = flow * (cells[::-1] / (grid.width, grid.height))
    return {
        "flow": np.zeros((*flow.shape[:-1], points, points, 2), np.uint8),
        "flow_span": np.stack([lowest, np.zeros_like(lowest)], -2).astype(np.float32),
        "flow_place": np.broadcast_to(np.stack([[0.5, 0.5], cells], -1), (len(flow), 2, 2)).astype(np.float32),
    }


def _frame_steps(masks: MaskStep) -> np.ndarray:
    """The direction of each stored flow, 1 forwards, -1 backwards in time: [P], or [2, P] for a random base."""
    frames, options = masks.grid.frames, masks.mask
    if masks.given_both_ways:
        source, target = adjacent_pairs(frames)
    else:
        source, target = neighbour_pairs(frames, base_frame(jax.random.key(0), frames, options), options.direction)
    return target - source
