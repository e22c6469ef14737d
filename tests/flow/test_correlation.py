import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.flow.correlation import (
    LEVELS,
    RADIUS,
    correlation_pyramid,
    lookup,
    lookup_by_gather,
    lookup_for_gradient,
)

PAIRS, HEIGHT, WIDTH, CHANNELS = 2, 8, 13, 5
WINDOW = 2 * RADIUS + 1


@pytest.fixture(scope="module")
def features():
    keys = jax.random.split(jax.random.key(0))
    return [jax.random.normal(key, (PAIRS, HEIGHT, WIDTH, CHANNELS)) for key in keys]


@pytest.fixture(scope="module")
def pyramid(features):
    return correlation_pyramid(*features)


def positions(scale):
    return jax.random.uniform(jax.random.key(1), (PAIRS, HEIGHT, WIDTH, 2), minval=-scale, maxval=WIDTH + scale)


def test_pyramid_is_the_dot_product_and_its_means_over_2x2_cells(features, pyramid):
    one, two = (np.asarray(x, np.float64) for x in features)
    level = np.einsum("pijc,pabc->pijab", one, two) / np.sqrt(CHANNELS)
    for correlation in pyramid:
        rows, columns = level.shape[3:]
        np.testing.assert_allclose(correlation, level.reshape(PAIRS, HEIGHT * WIDTH, rows, columns), atol=1e-5)
        level = level[..., : rows // 2 * 2, : columns // 2 * 2]
        level = level.reshape(PAIRS, HEIGHT, WIDTH, rows // 2, 2, columns // 2, 2).mean(axis=(4, 6))
    assert [correlation.shape[2:] for correlation in pyramid] == [(8, 13), (4, 6), (2, 3), (1, 1)]


def test_pyramid_is_float32_for_bfloat16_features(features):
    pyramid = correlation_pyramid(*(x.astype(jnp.bfloat16) for x in features))
    assert {correlation.dtype for correlation in pyramid} == {jnp.dtype("float32")}


@pytest.mark.parametrize("scale", [0.0, 20.0, 1e6])
def test_lookups_agree_inside_and_far_outside(pyramid, scale):
    at = positions(scale)
    products, gathered = jax.jit(lookup)(pyramid, at), jax.jit(lookup_by_gather)(pyramid, at)
    assert products.shape == (PAIRS, HEIGHT, WIDTH, LEVELS * WINDOW**2)
    assert jnp.isfinite(products).all()
    np.testing.assert_allclose(products, gathered, atol=1e-5)


@pytest.mark.parametrize("look_up", [lookup, lookup_by_gather, lookup_for_gradient])
def test_window_holds_interpolated_values_with_x_as_the_slower_index(pyramid, look_up):
    at = positions(4.0)
    windows = np.asarray(look_up(pyramid, at)).reshape(PAIRS, HEIGHT, WIDTH, LEVELS, WINDOW, WINDOW)
    rng = np.random.default_rng(0)
    for _ in range(200):
        pair, row, column = rng.integers([PAIRS, HEIGHT, WIDTH])
        level, dx, dy = rng.integers([LEVELS, WINDOW, WINDOW])
        x, y = np.asarray(at[pair, row, column], np.float64) / 2**level + (dx - RADIUS, dy - RADIUS)
        plane = np.pad(np.asarray(pyramid[level][pair, row * WIDTH + column], np.float64), 1)
        i, j = int(np.floor(y)), int(np.floor(x))
        expected = 0.0
        if -1 <= i < plane.shape[0] - 2 and -1 <= j < plane.shape[1] - 2:
            corners = plane[i + 1 : i + 3, j + 1 : j + 3]
            expected = [1 - (y - i), y - i] @ corners @ [1 - (x - j), x - j]
        assert windows[pair, row, column, level, dx, dy] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("look_up", [lookup, lookup_by_gather, lookup_for_gradient])
def test_everything_far_outside_is_zero(pyramid, look_up):
    assert (look_up(pyramid, jnp.full((PAIRS, HEIGHT, WIDTH, 2), -1e6)) == 0).all()
    assert (look_up(pyramid, jnp.full((PAIRS, HEIGHT, WIDTH, 2), 1e10)) == 0).all()
