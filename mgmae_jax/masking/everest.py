"""EVEREST: predict only tokens that change (Hwang et al., ICML 2024, arXiv 2211.10636; first called VideoMS).

A token's importance is the distance of its patch embedding to that of the token at the same place one tubelet before.
Of a clip's tokens only the most important share, `mask.keep`, is used at all: some of them, drawn at
random, are visible, and the others are the targets. The rest is neither encoded nor predicted.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions
from mgmae_jax.masking.select import highest, visible_per_tubelet
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.rng import named_key


def kept_tokens(grid: TokenGrid, options: MaskOptions) -> int:
    """How many tokens are used, visible ones and targets: 470 of 1568 for a share of 0.3."""
    return int(options.keep * grid.tokens + 1e-6)  # 0.3 * 10 is 2.99..96 in floating point, but should be 3


def check_everest(grid: TokenGrid, options: MaskOptions) -> None:
    """Checks that there are tubelets to compare, and that some kept tokens are left to predict.

    Raises:
      ConfigError: there is one tubelet, or `mask.keep` does not exceed the share of the visible tokens, or exceeds 1.
    """
    if grid.tubelets < 2:
        raise ConfigError("clip.frames", grid.frames, "two tubelets or more with mask.strategy=everest")
    visible = visible_per_tubelet(options.ratio, grid) * grid.tubelets
    if not (0 < options.keep <= 1 and visible < kept_tokens(grid, options)):
        want = f"more than 1 - mask.ratio = {1 - options.ratio:.4g}, to leave kept tokens to predict, and at most 1"
        raise ConfigError("mask.keep", options.keep, want)


def importance(tokens: Float[Array, "N D"], grid: TokenGrid) -> Float[Array, "N"]:
    """Distance of each token's embedding to that of the tubelet before.

    The tokens of the first tubelet have the importance of those of the second, as in the authors' program.
    """
    cubes = tokens.reshape(grid.tubelets, grid.per_tubelet, -1)
    distance = jnp.linalg.norm(cubes[1:] - cubes[:-1], axis=-1)
    return jnp.concatenate([distance[:1], distance]).reshape(-1)


def _kept(ask: MaskInput) -> Int[Array, "M"]:
    """The tokens that are used, in random order: the visible ones first."""
    if ask.tokens is None:
        raise ValueError("EVEREST masking needs tokens [N, D]")
    key_ties, key_order = jax.random.split(named_key(ask.key, "select", DRAWS))
    with jax.named_scope("importance"):
        scores = importance(ask.tokens, ask.grid)
    kept = highest(key_ties, scores, kept_tokens(ask.grid, ask.options))
    return jax.random.permutation(key_order, kept)


def everest(ask: MaskInput) -> Int[Array, "V"]:
    """Visible tokens: random ones of the most important."""
    return _kept(ask)[: ask.count]


def everest_target(ask: MaskInput, visible: Int[Array, "V"]) -> Int[Array, "K"]:
    """Targets: the most important tokens that are not visible."""
    return _kept(ask)[visible.shape[0] :]
