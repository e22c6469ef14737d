import numpy as np
import pytest

from mgmae_jax.models.layers import position_table
from mgmae_jax.models.positions import grid_positions
from mgmae_jax.ops.tokens import TokenGrid

TRAINED = TokenGrid(16, 224, 224)
WIDTH = 32


def volume(grid: TokenGrid, trained: TokenGrid | None = TRAINED) -> np.ndarray:
    table = grid_positions(grid, WIDTH, trained)
    assert table.dtype == "float32"
    return table.reshape(grid.tubelets, grid.rows, grid.columns, WIDTH)


@pytest.mark.parametrize("trained", [None, TRAINED, TokenGrid(8, 112, 112, tubelet=1, patch=8)])
def test_an_equal_grid_gives_the_identical_table(trained: TokenGrid | None):
    np.testing.assert_array_equal(grid_positions(TRAINED, WIDTH, trained), position_table(1568, WIDTH))


def test_twice_the_frames_are_interpolated_in_time_alone():
    got, table = volume(TokenGrid(32, 224, 224)), volume(TRAINED)
    # New tubelet 2k lies a quarter before the middle of old tubelet k, 2k + 1 a quarter behind it.
    np.testing.assert_allclose(got[2:-1:2], 0.75 * table[1:] + 0.25 * table[:-1], atol=1e-6)
    np.testing.assert_allclose(got[1:-1:2], 0.75 * table[:-1] + 0.25 * table[1:], atol=1e-6)
    np.testing.assert_array_equal(got[0], table[0])
    np.testing.assert_array_equal(got[-1], table[-1])


def test_another_resolution_is_interpolated_down_and_across_alike():
    got, table = volume(TokenGrid(16, 112, 112)), volume(TRAINED)
    # A new token covers four old ones.
    want = table.reshape(8, 7, 2, 7, 2, WIDTH).mean((2, 4))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(("frames", "height", "width"), [(8, 160, 288), (24, 336, 96), (2, 16, 16)])
def test_any_grid_stays_within_the_trained_table(frames: int, height: int, width: int):
    got = volume(TokenGrid(frames, height, width))
    assert np.abs(got).max() <= 1
    middle = volume(TokenGrid(2, 16, 16))[0, 0, 0]
    # The middle of every clip is the middle of the trained one, whatever its grid.
    np.testing.assert_allclose(middle, volume(TRAINED)[3:5, 6:8, 6:8].mean((0, 1, 2)), atol=1e-6)


def test_separable_positions_tell_time_row_and_column_apart():
    grid = TokenGrid(8, 32, 48, patch=8)
    table = grid_positions(grid, WIDTH, positions="separable").reshape(4, 4, 6, WIDTH)
    assert table.dtype == "float32"
    third = WIDTH // 6 * 2
    for axis, part in enumerate((slice(third), slice(third, 2 * third), slice(2 * third, None))):
        along = np.moveaxis(table[..., part], axis, 0)
        np.testing.assert_array_equal(along, np.broadcast_to(along[:, :1, :1], along.shape))
        assert len(np.unique(along[:, 0, 0], axis=0)) == along.shape[0]


def test_separable_positions_of_another_grid_are_interpolated():
    trained = TokenGrid(8, 32, 32, patch=8)
    got = grid_positions(TokenGrid(16, 32, 32, patch=8), WIDTH, trained, "separable").reshape(8, 4, 4, WIDTH)
    table = grid_positions(trained, WIDTH, positions="separable").reshape(4, 4, 4, WIDTH)
    np.testing.assert_allclose(got[2:-1:2], 0.75 * table[1:] + 0.25 * table[:-1], atol=1e-6)
