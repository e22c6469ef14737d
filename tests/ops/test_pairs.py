import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.ops.pairs import adjacent_pairs, neighbour_pairs


@pytest.mark.parametrize("base", range(4))
def test_every_other_frame_goes_to_its_neighbour_nearer_the_base(base):
    source, target = neighbour_pairs(4, base)
    others = [i for i in range(4) if i != base]
    assert source.tolist() == others
    assert target.tolist() == [i + 1 if i < base else i - 1 for i in others]
    assert source.dtype == target.dtype == np.int32


@pytest.mark.parametrize("base", range(4))
def test_from_base_turns_every_pair_round(base):
    source, target = neighbour_pairs(4, base)
    turned_source, turned_target = neighbour_pairs(4, base, "from_base")
    np.testing.assert_array_equal(turned_source, target)
    np.testing.assert_array_equal(turned_target, source)


def test_to_earlier_turns_the_pairs_before_the_base_round():
    source, target = neighbour_pairs(5, 3, "to_earlier")
    assert source.tolist() == [1, 2, 3, 4]
    assert target.tolist() == [0, 1, 2, 3]


def test_adjacent_pairs_hold_both_directions():
    source, target = adjacent_pairs(4)
    assert source.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert target.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert source.dtype == target.dtype == np.int32


@pytest.mark.parametrize("direction", ["to_base", "from_base", "to_earlier"])
def test_a_traced_base_gives_the_same(direction):
    pairs = jax.jit(lambda base: neighbour_pairs(5, base, direction))
    for base in range(5):
        source, target = neighbour_pairs(5, base, direction)
        traced_source, traced_target = pairs(jnp.int32(base))
        np.testing.assert_array_equal(traced_source, source)
        np.testing.assert_array_equal(traced_target, target)
        assert traced_source.dtype == traced_target.dtype == jnp.int32
