import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops import imagenet
from mgmae_jax.ops.tokens import (
    TokenGrid,
    normalise_cubes,
    normalise_pixels,
    patchify,
    restore_cubes,
    take_tokens,
    unit_range,
    unpatchify,
)
from tests.shared_data import shared

GRID = TokenGrid(4, 16, 24, tubelet=2, patch=8)


def test_counts_of_the_papers_grid():
    grid = TokenGrid(16, 224, 224)
    assert (grid.tubelets, grid.rows, grid.columns, grid.per_tubelet, grid.tokens) == (8, 14, 14, 196, 1568)
    assert grid.cube_values == 1536


def test_counts_of_a_grid_that_is_not_square():
    grid = TokenGrid(6, 24, 40, tubelet=3, patch=8)
    assert (grid.tubelets, grid.rows, grid.columns, grid.per_tubelet, grid.tokens) == (2, 3, 5, 15, 30)
    assert grid.cube_values == 3 * 8 * 8 * 3


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((15, 224, 224), r"config\.clip\.frames=15: give a multiple of model\.tubelet=2"),
        ((0, 224, 224), r"config\.clip\.frames=0"),
        ((16, 225, 224), r"config\.clip\.size=225: give a multiple of model\.patch=16"),
        ((16, 224, 8), r"config\.clip\.size=8"),
        ((16, 0, 224), r"config\.clip\.size=0"),
        ((16, 224, 224, 0), r"config\.model\.tubelet=0: give 1 or more"),
        ((16, 224, 224, -2), r"config\.model\.tubelet=-2: give 1 or more"),
        ((16, 224, 224, 2, 0), r"config\.model\.patch=0: give 1 or more"),
        ((16, 224, 224, 2, -16), r"config\.model\.patch=-16: give 1 or more"),
    ],
)
def test_lengths_that_cannot_work_are_named(sizes, message):
    with pytest.raises(ConfigError, match=message):
        TokenGrid(*sizes)


def clips(batch=2):
    return np.random.default_rng(0).integers(0, 256, (batch, GRID.frames, GRID.height, GRID.width, 3), np.uint8)


def test_cubes_are_in_token_order_with_pixels_in_frame_row_column_channel_order():
    clip = clips()
    cubes = patchify(jnp.asarray(clip), GRID)
    assert cubes.shape == (2, GRID.tokens, GRID.cube_values)
    # Token (tubelet 1, row 0, column 2).
    np.testing.assert_array_equal(cubes[1, 1 * GRID.per_tubelet + 2], clip[1, 2:4, 0:8, 16:24].reshape(-1))


def test_unpatchify_undoes_patchify_for_one_clip_and_a_batch():
    for clip in (clips(), clips()[0]):
        np.testing.assert_array_equal(unpatchify(patchify(jnp.asarray(clip), GRID), GRID), clip)


def test_unit_range_ends_at_zero_and_one():
    pixels = unit_range(jnp.array([0, 51, 255], jnp.uint8))
    np.testing.assert_allclose(pixels, [0, 0.2, 1], rtol=1e-6)
    assert pixels.dtype == jnp.float32


def test_normalised_cubes_have_mean_0_and_unbiased_variance_1_and_restore():
    cubes = unit_range(patchify(jnp.asarray(clips()), GRID))
    target = normalise_cubes(cubes)
    channels = np.asarray(target).reshape(2, GRID.tokens, -1, 3)
    np.testing.assert_allclose(channels.mean(axis=2), 0, atol=1e-5)
    np.testing.assert_allclose(channels.var(axis=2, ddof=1), 1, atol=1e-4)
    np.testing.assert_allclose(restore_cubes(target, cubes), cubes, atol=1e-5)


def test_a_cube_of_one_colour_gives_zeros():
    assert (normalise_cubes(jnp.full((1, 2, GRID.cube_values), 0.5)) == 0).all()


def test_the_target_is_the_official_one():
    with np.load(shared("golden/mae_pretrain_tiny.npz")) as golden:
        clip, expected = np.moveaxis(golden["clip"], 1, -1), golden["target"]
    pixels = clip * imagenet.IMAGENET_STD + imagenet.IMAGENET_MEAN
    target = normalise_cubes(patchify(jnp.asarray(pixels), TokenGrid(8, 64, 64)))
    np.testing.assert_allclose(target, expected, atol=1e-4)


def test_network_input_is_normalised_by_channel():
    cubes = jnp.broadcast_to(jnp.asarray(np.tile(imagenet.IMAGENET_MEAN, 4)), (1, 2, 12))
    np.testing.assert_allclose(normalise_pixels(cubes), 0, atol=1e-6)
    one_up = cubes + np.tile(imagenet.IMAGENET_STD, 4).reshape(1, 1, -1)
    np.testing.assert_allclose(normalise_pixels(one_up), 1, atol=1e-5)


def test_take_tokens_takes_each_examples_own():
    tokens = jax.random.normal(jax.random.key(0), (2, 5, 3))
    taken = take_tokens(tokens, jnp.array([[4, 0], [1, 1]]))
    np.testing.assert_array_equal(taken, np.stack([tokens[0, [4, 0]], tokens[1, [1, 1]]]))
