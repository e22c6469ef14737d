import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from mgmae_jax.ops.sampling import (
    cell_coordinates,
    hat_weights,
    inside,
    interpolation_matrix,
    pixel_grid,
    resample_cells,
    resize_aligned,
    sample_bilinear,
)

HEIGHT, WIDTH = 5, 8
IMAGE = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH)).astype(np.float32)
POSITIONS = st.lists(
    st.tuples(st.floats(-3, WIDTH + 3, width=32), st.floats(-3, HEIGHT + 3, width=32)), min_size=4, max_size=4
)


def bilinear(image, x, y):
    """Weighs every pixel by its distance; pixels outside do not exist."""
    rows, columns = np.indices(image.shape)
    weights = np.maximum(0, 1 - abs(rows - y)) * np.maximum(0, 1 - abs(columns - x))
    return (weights * image).sum()


def test_pixel_grid_holds_x_then_y():
    grid = pixel_grid(3, 4)
    assert grid.shape == (3, 4, 2)
    assert grid.dtype == jnp.float32
    assert grid[2, 1].tolist() == [1, 2]


def test_sampling_at_the_pixels_gives_the_image():
    np.testing.assert_array_equal(sample_bilinear(jnp.asarray(IMAGE), pixel_grid(HEIGHT, WIDTH)), IMAGE)


@hypothesis.given(positions=POSITIONS)
def test_sampling_is_bilinear_with_zeros_outside(positions):
    sampled = sample_bilinear(jnp.asarray(IMAGE), jnp.asarray(positions, jnp.float32))
    np.testing.assert_allclose(sampled, [bilinear(IMAGE, x, y) for x, y in positions], atol=1e-5)


@hypothesis.given(positions=POSITIONS)
def test_hat_weights_sample_as_the_gather_does(positions):
    positions = jnp.asarray(positions, jnp.float32)
    columns, rows = hat_weights(positions[:, 0], WIDTH), hat_weights(positions[:, 1], HEIGHT)
    products = jnp.einsum("nh,nw,hw->n", rows, columns, jnp.asarray(IMAGE))
    np.testing.assert_allclose(products, sample_bilinear(jnp.asarray(IMAGE), positions), atol=1e-5)


@pytest.mark.parametrize("far", [1e6, -1e6, 1e12, -1e12])
def test_far_outside_is_zero_and_not_inside(far):
    positions = jnp.array([[far, 1.0], [1.0, far], [far, far]], jnp.float32)
    assert sample_bilinear(jnp.asarray(IMAGE), positions).tolist() == [0, 0, 0]
    assert not inside(positions, HEIGHT, WIDTH).any()
    assert (hat_weights(positions[:, 0], WIDTH)[0] == 0).all()


def test_inside_is_the_rectangle_of_the_centres():
    edge = [[0, 0], [WIDTH - 1, HEIGHT - 1], [-0.01, 0], [0, -0.01], [WIDTH - 0.99, 0], [0, HEIGHT - 0.99], [HEIGHT, 2]]
    found = inside(jnp.array(edge, jnp.float32), HEIGHT, WIDTH)
    assert found.tolist() == [True, True, False, False, False, False, True]


@pytest.mark.parametrize(("size_in", "size_out"), [(4, 9), (9, 4), (28, 224), (5, 5), (1, 6), (3, 1)])
def test_interpolation_matrix_aligns_first_and_last(size_in, size_out):
    values = np.random.default_rng(1).normal(size=size_in).astype(np.float32)
    at = np.linspace(0, size_in - 1, size_out) if size_out > 1 else [0]
    expected = np.interp(at, np.arange(size_in), values)
    np.testing.assert_allclose(interpolation_matrix(size_in, size_out) @ values, expected, atol=1e-4)


def test_resize_aligned_interpolates_rows_and_columns():
    image = np.random.default_rng(2).normal(size=(2, 3, 4, 2)).astype(np.float32)
    resized = np.asarray(resize_aligned(jnp.asarray(image), 7, 13))
    assert resized.shape == (2, 7, 13, 2)
    np.testing.assert_allclose(resized[:, ::3, ::4], image, atol=1e-5)
    # Linear along the edge between two corners.
    np.testing.assert_allclose(resized[:, 0, 2], (image[:, 0, 0] + image[:, 0, 1]) / 2, atol=1e-5)


def test_cells_are_read_between_their_centres_and_not_beyond():
    ramp = jnp.arange(4.0)[None, :, None] * 10  # four cells of 8 pixels, whose centres are at 3.5, 11.5, ...
    finer = resample_cells(ramp, 1, 32)[0, :, 0]
    np.testing.assert_allclose(finer, np.clip((np.arange(32) - 3.5) / 8, 0, 3) * 10, atol=1e-4)
    np.testing.assert_allclose(resample_cells(finer[None, :, None], 1, 4), ramp, atol=0.5)
    np.testing.assert_array_equal(resample_cells(ramp, 1, 4), ramp)
    np.testing.assert_allclose(cell_coordinates(jnp.array([-9.0, 3.5, 7.5, 99.0]), 32, 4), [0, 0, 0.5, 3], atol=1e-6)
