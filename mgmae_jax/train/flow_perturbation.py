"""Random errors put into RAFT's flow between its updates, so that each update learns to correct what it is given."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mgmae_jax.ops.sampling import resize_aligned

SMALLEST, LARGEST = 0.02, 0.5
"""Cells of 8 pixels: the range of the errors' scale, which is drawn log-uniformly."""
_GRID = 3


def draw_errors(
    key: Key[Array, ""], share: float, iters: int, pairs: int, height: int, width: int
) -> Float[Array, "{iters} {pairs} {height} {width} xy=2"]:
    """Errors in cells to add to the flow before each update: smooth over the frame, zero before most updates.

    An update that always finds the flow where the last one left it can learn to foresee errors instead of seeing them:
    it stops a few tenths of a pixel early, and what disturbs it is not put right by later updates. An error that it
    cannot foresee is seen in the correlation only.

    Args:
      key: for this step.
      share: part of the updates of each pair before which there is an error, 0 to 1.
      iters: number of updates.
      pairs: number of pairs.
      height: of the flow in cells.
      width: of the flow in cells.
    """
    whether, scale, shape = jax.random.split(key, 3)
    each = (iters, pairs, 1, 1, 1)
    log = jax.random.uniform(scale, each, minval=jnp.log(SMALLEST), maxval=jnp.log(LARGEST))
    scales = jnp.where(jax.random.bernoulli(whether, share, each), jnp.exp(log), 0.0)
    return scales * resize_aligned(jax.random.normal(shape, (iters, pairs, _GRID, _GRID, 2)), height, width)
