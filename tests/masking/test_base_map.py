import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.masking.base_map import (
    gaussian_maximum,
    gaussian_mixture,
    pixel_map,
    random_tokens,
    token_centres,
    token_map,
)
from mgmae_jax.ops.tokens import TokenGrid

GRID = TokenGrid(4, 24, 40, tubelet=2, patch=8)


def test_centres_are_y_and_x_of_the_midpoints():
    assert token_centres(jnp.array([0, 4, 7]), GRID).tolist() == [[3.5, 3.5], [3.5, 35.5], [11.5, 19.5]]


def test_random_tokens_differ_and_all_can_come():
    drawn = jax.vmap(lambda key: random_tokens(key, GRID, 4))(jax.random.split(jax.random.key(0), 200))
    assert drawn.dtype == jnp.int32
    assert all(len(set(tokens)) == 4 for tokens in drawn.tolist())
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=GRID.per_tubelet)
    # 200 draws of 4 out of 15: 53 each, standard deviation 6.
    assert counts.shape == (15,)
    assert counts.min() > 25
    assert counts.max() < 85


@pytest.mark.parametrize("rule", [gaussian_mixture, gaussian_maximum])
def test_gaussians_against_their_definition(rule):
    centres = token_centres(jnp.array([0, 4, 7]), GRID)
    y, x = np.indices((24, 40))
    squares = [(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in np.asarray(centres)]
    if rule is gaussian_mixture:
        expected = sum(np.exp(-square / (2 * 8.0**2)) for square in squares)
    else:
        expected = np.maximum.reduce([np.exp(-square / 8.0**2) for square in squares])
        expected = expected / expected.max()
    np.testing.assert_allclose(rule(centres, GRID, 8.0), expected, rtol=1e-5)


def test_token_map_is_one_on_the_tokens():
    chosen = np.zeros((3, 5))
    chosen[[0, 1], [4, 2]] = 1
    np.testing.assert_array_equal(token_map(jnp.array([4, 7]), GRID), np.kron(chosen, np.ones((8, 8))))


def test_pixel_map_is_one_on_that_many_random_pixels():
    one, two = (pixel_map(jax.random.key(seed), GRID, 100) for seed in (0, 1))
    assert one.shape == (24, 40)
    assert np.unique(one).tolist() == [0, 1]
    assert one.sum() == two.sum() == 100
    assert (one != two).any()
