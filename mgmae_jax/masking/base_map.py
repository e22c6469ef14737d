"""The visibility map of the base frame (section 3.2, "Generate the initial mask map"; Table 1d)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mgmae_jax.ops.tokens import TokenGrid


def token_centres(tokens: Int[Array, "K"], grid: TokenGrid) -> Float[Array, "K yx=2"]:
    """Centres (y, x) in pixels of tokens, given by their index within the frame."""
    row_column = jnp.stack([tokens // grid.columns, tokens % grid.columns], axis=-1)
    return row_column.astype(jnp.float32) * grid.patch + (grid.patch - 1) / 2


def random_tokens(key: Key[Array, ""], grid: TokenGrid, count: int) -> Int[Array, "{count}"]:
    """`count` distinct tokens of one frame, drawn uniformly."""
    return jax.random.permutation(key, jnp.arange(grid.per_tubelet, dtype=jnp.int32))[:count]


def gaussian_mixture(centres: Float[Array, "K yx=2"], grid: TokenGrid, sigma: float) -> Float[Array, "H W"]:
    """Sum of isotropic Gaussians at `centres`, each with peak 1: the mixture's density up to a constant factor.

    A Gaussian is a product of a function of y and one of x, so the sum is one matrix product.
    """
    down, across = _profiles(centres, grid, 2 * sigma**2)
    return jnp.einsum("kh,kw->hw", down, across, precision=jax.lax.Precision.HIGHEST)


def gaussian_mixture_at(
    positions: Float[Array, "*N xy=2"], centres: Float[Array, "K yx=2"], sigma: float
) -> Float[Array, "*N"]:
    """The values of `gaussian_mixture` at positions (x, y) in pixels, between pixels as well."""
    y = positions[..., 1, None] - centres[:, 0].reshape((1,) * (positions.ndim - 1) + (-1,))
    x = positions[..., 0, None] - centres[:, 1].reshape((1,) * (positions.ndim - 1) + (-1,))
    return jnp.exp(-(jnp.square(y) + jnp.square(x)) / (2 * sigma**2)).sum(axis=-1)


def gaussian_maximum(centres: Float[Array, "K yx=2"], grid: TokenGrid, sigma: float) -> Float[Array, "H W"]:
    """The released code's map: the largest of exp(-d^2 / sigma^2), with no 1/2, divided by the map's maximum."""
    down, across = _profiles(centres, grid, sigma**2)
    highest = (down[:, :, None] * across[:, None, :]).max(axis=0)
    return highest / highest.max()


def _profiles(centres: Float[Array, "K yx=2"], grid: TokenGrid, scale: float) -> tuple[Array, Array]:
    y = jnp.arange(grid.height, dtype=jnp.float32)[None] - centres[:, :1]
    x = jnp.arange(grid.width, dtype=jnp.float32)[None] - centres[:, 1:]
    return jnp.exp(-jnp.square(y) / scale), jnp.exp(-jnp.square(x) / scale)


def token_map(tokens: Int[Array, "K"], grid: TokenGrid) -> Float[Array, "H W"]:
    """1 on the given tokens of the frame, 0 elsewhere ("token rand.")."""
    chosen = jnp.zeros(grid.per_tubelet).at[tokens].set(1.0).reshape(grid.rows, grid.columns)
    return chosen.repeat(grid.patch, axis=0).repeat(grid.patch, axis=1)


def pixel_map(key: Key[Array, ""], grid: TokenGrid, count: int) -> Float[Array, "H W"]:
    """1 on `count` random pixels of the frame, 0 elsewhere ("pixel rand.")."""
    pixels = jnp.arange(grid.height * grid.width, dtype=jnp.int32)
    order = jax.random.permutation(key, pixels)
    return (order < count).astype(jnp.float32).reshape(grid.height, grid.width)
