import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.ops.tokens import TokenGrid, patchify, take_tokens, unit_range
from mgmae_jax.train.targets import TARGETS, find_target

GRID = TokenGrid(4, 16, 16, tubelet=2, patch=8)
BYTES = np.random.default_rng(0).integers(25, 230, (2, 4, 16, 16, 3)).astype(np.uint8)
CLIPS = unit_range(jnp.asarray(BYTES))
TOKENS = jnp.asarray([[0, 2, 3, 6, 7], [1, 2, 4, 5, 6]], jnp.int32)
CUBES = take_tokens(patchify(CLIPS, GRID), TOKENS)


@pytest.mark.parametrize("name", ["normalised", "pixels"])
def test_a_perfect_prediction_is_drawn_as_the_truth(name: str):
    target = find_target(name)
    np.testing.assert_allclose(target.draw(target.values(CLIPS, TOKENS, GRID), CUBES, GRID), CUBES, atol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_drawn_stays_within_the_range_of_pixels(name: str):
    target = find_target(name)
    prediction = jnp.full((*CUBES.shape[:-1], target.width(GRID)), 9.0)
    drawn = np.asarray(target.draw(prediction, CUBES, GRID))
    assert drawn.shape == CUBES.shape
    assert drawn.min() >= 0
    assert drawn.max() == 1


def test_pixels_are_drawn_without_the_truth():
    target = TARGETS["pixels"]
    drawn = target.draw(CUBES, CUBES, GRID)
    np.testing.assert_array_equal(drawn, target.draw(CUBES, jnp.zeros(CUBES.shape), GRID))


def test_pixels_are_standardised_by_channel():
    values = np.asarray(TARGETS["pixels"].values(CLIPS, TOKENS, GRID)).reshape(-1, 3)
    want = (np.asarray(CUBES).reshape(-1, 3) - np.asarray(IMAGENET_MEAN)) / np.asarray(IMAGENET_STD)
    np.testing.assert_allclose(values, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_values_are_those_of_a_cubes_own_pixels_where_the_target_says_so(name: str):
    target, alone = TARGETS[name], jnp.asarray([[0], [0]], jnp.int32)
    changed = CLIPS.at[:, :, :, 8:].set(0.5)  # but for the cubes of the left column
    same = target.values(CLIPS, alone, GRID) == target.values(changed, alone, GRID)
    assert bool(same.all()) == target.of_own_pixels


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_and_floats_are_the_same_clips(name: str):
    target = find_target(name)
    values = target.values(jnp.asarray(BYTES), TOKENS, GRID)
    assert values.shape == (2, 5, target.width(GRID))
    np.testing.assert_array_equal(values, target.values(CLIPS, TOKENS, GRID))


def test_an_unknown_target_is_an_error_that_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"config.loss.target='sift': give one of normalised, pixels, hog"):
        find_target("sift")
