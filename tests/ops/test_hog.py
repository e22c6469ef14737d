"""HOG against scikit-image's, OpenCV's Sobel filter, and a definition in loops."""

from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.hog import (
    BINS,
    CELL,
    cell_histograms,
    draw_hog,
    hog_values,
    normalise_histograms,
    sobel_gradients,
    token_hog,
)
from mgmae_jax.ops.tokens import TokenGrid, unpatchify

GRID = TokenGrid(4, 32, 48, tubelet=2, patch=16)
compiled_hog = jax.jit(token_hog, static_argnums=1)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Bytes [4, 32, 48, 3]."""
    return np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), np.uint8)


def test_histograms_are_those_of_scikit_image():
    """Its gradients are plain differences, zero at the borders, which is what reflection makes of them."""
    with np.load(Path(__file__).parents[1] / "golden/hog.npz") as golden:
        image, want = golden["image"] / np.float32(255), golden["histograms"]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect").transpose(2, 0, 1)
    right = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    got = normalise_histograms(cell_histograms(jnp.asarray(right), jnp.asarray(down)))
    np.testing.assert_allclose(np.moveaxis(got, 0, 2), want, atol=1e-4)
    assert (want[0, 0, 1] == 0).sum() == 6  # nearly flat: three orientations, where its neighbours begin


def test_gradients_are_those_of_opencv(clip: np.ndarray):
    image = clip[0, ..., 0].astype(np.float32)
    for got, (x, y) in zip(sobel_gradients(jnp.asarray(image)), ((1, 0), (0, 1)), strict=True):
        want = cv2.Sobel(image, cv2.CV_32F, x, y, ksize=3, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(got, want, atol=1e-3)


def cell_by_loops(frame: np.ndarray, row: int, column: int) -> np.ndarray:
    """The histogram of a cell of one channel, of norm 1."""
    right, down = (
        cv2.Sobel(frame.astype(np.float64), cv2.CV_64F, x, 1 - x, ksize=3, borderType=cv2.BORDER_REFLECT_101)
        for x in (1, 0)
    )
    histogram = np.zeros(BINS)
    for y in range(row * CELL, (row + 1) * CELL):
        for x in range(column * CELL, (column + 1) * CELL):
            degrees = np.degrees(np.arctan2(right[y, x], down[y, x])) % 180
            histogram[int(degrees // 20) % BINS] += np.hypot(right[y, x], down[y, x])
    return histogram / np.linalg.norm(histogram)


def test_tokens_hold_the_cells_of_their_first_frame(clip: np.ndarray):
    values = np.asarray(compiled_hog(jnp.asarray(clip, jnp.float32)[None], GRID))
    assert values.shape == (1, GRID.tokens, hog_values(GRID)) == (1, 12, 108)
    cells = values.reshape(2, 2, 3, 2, 2, 3, BINS)
    for tubelet, row, column, cell_row, cell_column, channel in [
        (0, 0, 0, 0, 0, 0),
        (1, 0, 2, 1, 0, 1),
        (1, 1, 1, 0, 1, 2),
    ]:
        want = cell_by_loops(clip[2 * tubelet, ..., channel], 2 * row + cell_row, 2 * column + cell_column)
        np.testing.assert_allclose(cells[tubelet, row, column, cell_row, cell_column, channel], want, atol=1e-5)


def test_scale_and_offset_of_a_channel_change_nothing(clip: np.ndarray):
    pixels = jnp.asarray(clip, jnp.float32)
    changed = pixels * jnp.array([2.0, 0.5, 4.0]).reshape(1, 1, 1, 3) + 64.0
    np.testing.assert_allclose(compiled_hog(changed, GRID), compiled_hog(pixels, GRID), atol=1e-6)


def test_a_flat_frame_has_no_gradients():
    np.testing.assert_array_equal(compiled_hog(jnp.full((4, 32, 48, 3), 0.3), GRID), 0)


@pytest.mark.parametrize("edge", [0, 30, 90, 135])
def test_an_edge_is_drawn_along_itself(edge: int):
    """To half the width of an orientation; degrees from the horizontal, downwards."""
    grid = TokenGrid(2, 16, 16, tubelet=2, patch=16)
    y, x = np.mgrid[:16, :16]
    ramp = np.exp(0.2 * (np.cos(np.radians(edge)) * y - np.sin(np.radians(edge)) * x))
    clip = jnp.broadcast_to(jnp.asarray(ramp, jnp.float32)[None, ..., None], (2, 16, 16, 3))
    drawn = np.asarray(unpatchify(draw_hog(compiled_hog(clip, grid), grid), grid))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    cell = drawn[0, :8, 8:, 0]
    y, x = np.mgrid[:8, :8] - 3.5
    angle = np.degrees(np.arctan2(2 * (cell * x * y).sum(), (cell * (x**2 - y**2)).sum())) / 2
    assert abs((angle - edge + 90) % 180 - 90) < 12


def test_patches_of_half_a_cell_are_refused():
    for patch in (4, 12, 14):
        with pytest.raises(ConfigError, match=rf"config.model.patch={patch}: give a multiple of 8 pixels.*hog"):
            hog_values(TokenGrid(2, 168, 168, tubelet=2, patch=patch))


def test_jit_changes_nothing(clip: np.ndarray):
    pixels = jnp.asarray(clip, jnp.float32)
    np.testing.assert_allclose(compiled_hog(pixels, GRID), token_hog(pixels, GRID), atol=1e-6)
