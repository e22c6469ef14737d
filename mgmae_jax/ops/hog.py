"""Histograms of oriented gradients (HOG, Dalal and Triggs, CVPR 2005), as MaskFeat predicts them.

MaskFeat: Wei et al., "Masked Feature Prediction for Self-Supervised Visual Pre-Training", CVPR 2022, arXiv 2112.09133,
section 3. Its released program is SlowFast's `HOGLayerC`, whose choices are kept: gradients by Sobel's filter with
reflected borders, nine unsigned orientations counted from the vertical, each gradient counted whole in one of them,
cells of 8x8 pixels, each colour channel on its own, and every histogram divided by its L2 norm.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.tokens import TokenGrid

BINS, CELL = 9, 8
_LEAST_NORM = 1e-12  # a cell of one colour has a histogram of zeros


def cells_of(grid: TokenGrid) -> int:
    """How many cells a side of a token has.

    Raises:
      ConfigError: tokens do not consist of whole cells.
    """
    if grid.patch % CELL:
        raise ConfigError("model.patch", grid.patch, f"a multiple of {CELL} pixels, the cells of loss.target=hog")
    return grid.patch // CELL


def hog_values(grid: TokenGrid) -> int:
    """How many values a token has: 9 orientations of 3 channels for each of its cells (108 for a patch of 16).

    Raises:
      ConfigError: see `cells_of`.
    """
    return cells_of(grid) ** 2 * 3 * BINS


def token_hog(clip: Float[Array, "*B T H W 3"], grid: TokenGrid) -> Float[Array, "*B N D"]:
    """The HOG of each token: that of the first frame of its tubelet, which the released program takes.

    Any scale and offset of a channel leaves it the same, so pixels need no normalisation.

    Args:
      clip: pixels, any range.
      grid: how the clip is cut.

    Returns:
      Values by (cell row, cell column, channel, orientation).

    Raises:
      ConfigError: see `cells_of`.
    """
    side, lead = cells_of(grid), clip.shape[:-4]
    first = jnp.moveaxis(clip[..., :: grid.tubelet, :, :, :], -1, -3)
    cells = normalise_histograms(cell_histograms(*sobel_gradients(first)))
    cut = (*lead, grid.tubelets, 3, grid.rows, side, grid.columns, side, BINS)
    n = len(lead)
    order = (*range(n), *(n + axis for axis in (0, 2, 4, 3, 5, 1, 6)))
    return cells.reshape(cut).transpose(order).reshape(*lead, grid.tokens, hog_values(grid))


def sobel_gradients(images: Float[Array, "*B H W"]) -> tuple[Float[Array, "*B H W"], Float[Array, "*B H W"]]:
    """Gradients to the right and down by Sobel's filters, unscaled; borders are reflected about the outermost pixel."""
    padded = jnp.pad(images, [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)], mode="reflect")
    right, down = padded[..., 2:] - padded[..., :-2], padded[..., 2:, :] - padded[..., :-2, :]
    return (
        right[..., :-2, :] + 2 * right[..., 1:-1, :] + right[..., 2:, :],
        down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:],
    )


def cell_histograms(
    right: Float[Array, "*B H W"], down: Float[Array, "*B H W"], cell: int = CELL
) -> Float[Array, "*B h w bins=9"]:
    """For every cell, the summed lengths of its gradients by orientation.

    Args:
      right: gradients to the right.
      down: gradients down.
      cell: side of a cell in pixels, which divides H and W.

    Returns:
      Orientation k is from 20 k to 20 (k + 1) degrees, from down (0) through right (90) to up, either way along a line.
    """
    length = jnp.sqrt(jnp.square(right) + jnp.square(down))
    votes = jax.nn.one_hot(orientation_bins(right, down), BINS) * length[..., None]
    height, width = right.shape[-2:]
    cut = (*right.shape[:-2], height // cell, cell, width // cell, cell, BINS)
    return votes.reshape(cut).sum(axis=(-4, -2))


def orientation_bins(right: Float[Array, "*S"], down: Float[Array, "*S"]) -> Int[Array, "*S"]:
    """The orientation of each gradient, 0 to 8; see `cell_histograms`."""
    return jnp.floor(jnp.arctan2(right, down) * (BINS / np.pi)).astype(jnp.int32) % BINS


def normalise_histograms(histograms: Float[Array, "*B bins=9"]) -> Float[Array, "*B bins=9"]:
    """Histograms of L2 norm 1; those of zeros stay."""
    norm = jnp.sqrt(jnp.square(histograms).sum(axis=-1, keepdims=True))
    return histograms / jnp.maximum(norm, _LEAST_NORM)


def draw_hog(values: Float[Array, "*B N D"], grid: TokenGrid) -> Float[Array, "*B N C"]:
    """Draws histograms as lines through the middle of their cells, along the edges that make such gradients.

    Args:
      values: as from `token_hog`, or a prediction of it.
      grid: how the clip is cut.

    Returns:
      Cubes of pixels in [0, 1], see `ops.tokens.patchify`: black, with a line for each orientation in the colour of its
      channel, as bright as its value; the same in every frame of a tubelet.
    """
    side, lead = cells_of(grid), values.shape[:-1]
    bins = values.reshape(*lead, side, side, 3, BINS)
    drawn = jnp.einsum("...rckb,byx->...rycxk", jnp.maximum(bins, 0.0), jnp.asarray(_lines()))
    picture = jnp.clip(drawn, 0.0, 1.0).reshape(*lead, 1, -1)
    return jnp.broadcast_to(picture, (*lead, grid.tubelet, picture.shape[-1])).reshape(*lead, grid.cube_values)


def _lines() -> np.ndarray:
    """For each orientation a line across a cell, at a right angle to the gradient: float32 [9, 8, 8] in [0, 1]."""
    angle = (np.arange(BINS) + 0.5) * (np.pi / BINS)
    y, x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2
    away = np.abs(np.sin(angle)[:, None, None] * x + np.cos(angle)[:, None, None] * y)
    lines: np.ndarray = np.maximum(0.0, 1.0 - away).astype(np.float32)
    return lines
