import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.grid import TokenGrid


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
    ],
)
def test_lengths_that_do_not_divide_are_named(sizes, message):
    with pytest.raises(ConfigError, match=message):
        TokenGrid(*sizes)
