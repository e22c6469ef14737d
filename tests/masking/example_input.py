"""For every strategy, options that it can work with and an input that has all it may look at."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.strategies import STRATEGIES
from mgmae_jax.ops.tokens import TokenGrid

WIDTH = 8
"""That of the tokens."""


def example_options(strategy: str, ratio: float, **mask: Any) -> MaskOptions:
    """Options of a strategy for a ratio: EVEREST keeps half of the tokens that are hidden."""
    return MaskOptions(**{"strategy": strategy, "ratio": ratio, "keep": 1 - ratio / 2, **mask})


def random_flow(grid: TokenGrid, seed: int, scale: float) -> jax.Array:
    """Normal flow between neighbouring frames, with a standard deviation of `scale` pixels."""
    flow = np.random.default_rng(seed).normal(size=(grid.frames - 1, grid.height, grid.width, 2))
    return jnp.asarray(flow * scale, jnp.float32)


@functools.partial(jax.jit, static_argnames=("grid", "options"))
def _init(key: jax.Array, grid: TokenGrid, options: MaskOptions) -> Any:
    init = STRATEGIES[options.strategy].init
    assert init is not None
    return init(key, grid, options, WIDTH)


def example_input(seed: int, grid: TokenGrid, options: MaskOptions, scale: float = 0.4) -> MaskInput:
    """An input of noise: key, clip, tokens, and what the strategy needs of flow and parameters.

    Args:
      seed: of all that is random.
      grid: how the clip is cut.
      options: the strategy's.
      scale: see `random_flow`.
    """
    strategy, key, rng = STRATEGIES[options.strategy], jax.random.key(seed), np.random.default_rng(seed)
    return MaskInput(
        key=key,
        grid=grid,
        options=options,
        clip=jnp.asarray(rng.integers(0, 256, (grid.frames, grid.height, grid.width, 3), np.uint8)),
        flow=random_flow(grid, seed, scale) if strategy.needs_flow else None,
        params=_init(key, grid, options) if strategy.init else None,
        tokens=jnp.asarray(rng.normal(size=(grid.tokens, WIDTH)), jnp.float32) if strategy.needs_tokens else None,
    )
