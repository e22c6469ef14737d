"""Quality and speed of flow: end-point error on pairs with true flow; and the flow that a mask needs."""

import statistics
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mgmae_jax.bench.flow_methods import Method
from mgmae_jax.flow.metrics import flow_scores
from mgmae_jax.masking.mask_input import MaskOptions, base_frame
from mgmae_jax.ops.pairs import neighbour_pairs


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


def mask_flow(method: Method, clip: np.ndarray, mask: MaskOptions, both_ways: bool = False) -> np.ndarray:
    """The flow that a motion guided mask of `clip` (uint8 [T, H, W, 3]) needs, [T - 1, H, W, 2], or at points.

    With `both_ways` the flow of the same pairs the other way follows it, see `MaskInput.flow`.
    """
    base = base_frame(jax.random.key(0), len(clip), mask)
    source, target = map(np.asarray, neighbour_pairs(len(clip), base, mask.direction))
    if both_ways:
        source, target = np.concatenate([source, target]), np.concatenate([target, source])
    return method(clip, source, target)
