"""Quality and speed of flow: end-point error on pairs with true flow, and how far masks agree between two flows."""

import statistics
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mgmae_jax.bench.flow_methods import Method
from mgmae_jax.flow.metrics import flow_scores
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions, base_frame
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid


def score_pair(method: Method, pair: Mapping[str, np.ndarray], repeats: int) -> dict[str, float]:
    """Scores a method on one pair from `data.flow_files`.

    Args:
      method: one of those in `bench.flow_methods`.
      pair: see `FlowPair.read`.
      repeats: calls that are timed, after one that is not.

    Returns:
      "epe", "over_1px", "over_3px", "over_5px" (see `flow_scores`), and "ms", the median time of a call.
    """
    frames = np.stack([pair["image1"], pair["image2"]])
    source, target = np.array([0]), np.array([1])
    flow = method(frames, source, target)[0]
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        method(frames, source, target)
        seconds.append(time.perf_counter() - start)
    scores = flow_scores(jnp.asarray(flow), jnp.asarray(pair["flow"]), jnp.asarray(pair["valid"]))
    return {name: float(value) for name, value in scores.items()} | {"ms": statistics.median(seconds) * 1000}


def mask_flow(method: Method, clip: np.ndarray, mask: MaskOptions) -> np.ndarray:
    """The flow that a motion guided mask of `clip` (uint8 [T, H, W, 3]) needs, [T - 1, H, W, 2], or at points."""
    base = base_frame(jax.random.key(0), len(clip), mask)
    source, target = neighbour_pairs(len(clip), base, mask.direction)
    return method(clip, np.asarray(source), np.asarray(target))


def visible_tokens(
    flow: Float[Array, "P h w xy=2"], keys: Key[Array, "K"], grid: TokenGrid, mask: MaskOptions
) -> Int[Array, "K V"]:
    """The visible tokens of a clip with this flow, for masks drawn from each of `keys`."""
    return jax.vmap(lambda key: draw_mask(MaskInput(key, grid, mask, flow=flow)).visible)(keys)


def visible_mask(visible: Int[Array, "K V"], grid: TokenGrid) -> Bool[Array, "K N"]:
    """Whether each token of a clip is visible."""
    return jax.vmap(lambda index: jnp.zeros(grid.tokens, bool).at[index].set(True))(visible)


def agreement(one: Bool[Array, "K N"], two: Bool[Array, "K N"]) -> Float[Array, ""]:
    """Share of the visible tokens of `one` that are visible in `two`, over all masks; both have equally many."""
    return (one & two).sum() / one.sum()
