import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.ops.tokens import TokenGrid, patchify, take_tokens, unit_range
from mgmae_jax.train.targets import TARGETS, find_target

GRID = TokenGrid(4, 8, 8, tubelet=2, patch=4)
BYTES = np.random.default_rng(0).integers(25, 230, (2, 4, 8, 8, 3)).astype(np.uint8)
CLIPS = unit_range(jnp.asarray(BYTES))
TOKENS = jnp.asarray([[0, 2, 3, 6, 7], [1, 2, 4, 5, 6]], jnp.int32)
CUBES = take_tokens(patchify(CLIPS, GRID), TOKENS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_perfect_prediction_is_drawn_as_the_truth(name: str):
    target = find_target(name)
    np.testing.assert_allclose(target.draw(target.values(CLIPS, TOKENS, GRID), CUBES), CUBES, atol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_drawn_stays_within_the_range_of_pixels(name: str):
    drawn = np.asarray(find_target(name).draw(jnp.full(CUBES.shape, 9.0), CUBES))
    assert drawn.min() >= 0
    assert drawn.max() == 1


def test_pixels_are_drawn_without_the_truth():
    target = TARGETS["pixels"]
    np.testing.assert_array_equal(target.draw(CUBES, CUBES), target.draw(CUBES, jnp.zeros(CUBES.shape)))


def test_pixels_are_standardised_by_channel():
    values = np.asarray(TARGETS["pixels"].values(CLIPS, TOKENS, GRID)).reshape(-1, 3)
    want = (np.asarray(CUBES).reshape(-1, 3) - np.asarray(IMAGENET_MEAN)) / np.asarray(IMAGENET_STD)
    np.testing.assert_allclose(values, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_and_floats_are_the_same_clips(name: str):
    target = find_target(name)
    values = target.values(jnp.asarray(BYTES), TOKENS, GRID)
    assert values.shape == (2, 5, target.width(GRID))
    np.testing.assert_array_equal(values, target.values(CLIPS, TOKENS, GRID))


def test_an_unknown_target_is_an_error_that_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"config.loss.target='hog': give one of normalised, pixels"):
        find_target("hog")
