"""How far two ways to masks agree: the share of the visible tokens that they have in common."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.ops.tokens import TokenGrid


def visible_tokens(
    flow: Float[Array, "P h w xy=2"], keys: Key[Array, "K"], grid: TokenGrid, mask: MaskOptions
) -> Int[Array, "K V"]:
    """The visible tokens of a clip with this flow, for masks drawn from each of `keys`."""
    return jax.vmap(lambda key: draw_mask(MaskInput(key, grid, mask, flow=flow)).visible)(keys)


def visible_mask(visible: Int[Array, "K V"], grid: TokenGrid) -> Bool[Array, "K N"]:
    """Whether each token of a clip is visible."""
    return jax.vmap(lambda index: jnp.zeros(grid.tokens, bool).at[index].set(True))(visible)


def agreement(one: Bool[Any, "K N"], two: Bool[Any, "K N"]) -> float:
    """Share of the visible tokens of `one` that are visible in `two`, over all masks; both have equally many."""
    return float((one & two).sum() / one.sum())
