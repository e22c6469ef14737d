"""Batches for measurements: textures that move at constant velocity, and their flow."""

import jax
import numpy as np

from mgmae_jax.masking.strategies import base_frame
from mgmae_jax.ops.pairs import adjacent_pairs, neighbour_pairs
from mgmae_jax.train.masks import MaskStep

_GRAIN = 4  # pixels to a side of one spot of the texture
_FASTEST = 4  # pixels a frame


def moving_batch(masks: MaskStep, clips: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Makes a batch as the data pipeline would give it to this masking step.

    Args:
      masks: the masking step, which determines the size of the clips and whether the batch holds flow.
      clips: how many.
      seed: the seed of textures and velocities.

    Returns:
      "clip" uint8 [clips, T, H, W, 3], and "flow" float32 where the step takes it from the batch: see
      `MaskStep.__call__`.
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
    if masks.mask.needs_flow and not masks.runs_raft:
        flow = np.einsum("...,bc->b...c", _frame_steps(masks), velocity)[..., None, None, :]
        shape = (*flow.shape[:-3], grid.height, grid.width, 2)
        batch["flow"] = np.ascontiguousarray(np.broadcast_to(flow, shape), np.float32)
    return batch


def _frame_steps(masks: MaskStep) -> np.ndarray:
    """The direction of each stored flow, 1 forwards, -1 backwards in time: [P], or [2, P] for a random base."""
    frames, options = masks.grid.frames, masks.mask
    if options.base_frame == "random":
        source, target = adjacent_pairs(frames)
    else:
        source, target = neighbour_pairs(frames, base_frame(jax.random.key(0), frames, options), options.direction)
    return target - source
