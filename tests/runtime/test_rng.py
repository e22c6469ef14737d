import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.runtime.rng import STREAMS, per_example, stream

data = jax.random.key_data


def test_ids_are_the_places_in_the_tuple_and_never_move():
    assert STREAMS[:7] == ("init", "mask", "", "", "drop_path", "dropout", "mixup")
    key = jax.random.key(3)
    want = jax.random.fold_in(jax.random.fold_in(key, 7), 1)
    np.testing.assert_array_equal(data(stream(key, 7, "mask")), data(want))


def test_streams_and_steps_differ():
    key = jax.random.key(0)
    names = [name for name in STREAMS if name]
    keys = {tuple(np.asarray(data(stream(key, step, name)))) for step in range(5) for name in names}
    assert len(keys) == 5 * len(names)


def test_unknown_name_is_an_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"'masks'.*mask, drop_path"):
        stream(jax.random.key(0), 0, "masks")


def test_a_traced_step_inside_jit_moves_nothing_between_host_and_device():
    draw = jax.jit(lambda key, step: jax.random.normal(stream(key, step, "mask")))
    key, steps = jax.random.key(0), [jnp.int32(4), jnp.int32(5)]
    draw(key, steps[0])
    with jax.transfer_guard("disallow"):
        first, second = draw(key, steps[0]), draw(key, steps[1])
    assert draw._cache_size() == 1
    assert first == jax.random.normal(stream(key, 4, "mask"))
    assert first != second


@given(start=st.integers(0, 1000), count=st.integers(1, 8))
def test_an_example_has_its_key_whatever_part_of_the_batch_it_comes_in(start: int, count: int):
    key = jax.random.key(1)
    keys = per_example(key, start, count)
    assert keys.shape == (count,)
    last = jax.random.fold_in(key, start + count - 1)
    np.testing.assert_array_equal(data(keys)[-1], data(last))


def test_per_example_is_the_same_on_a_sharded_batch():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

    def draw(key: jax.Array) -> jax.Array:
        return jax.vmap(jax.random.normal)(per_example(key, 0, 16))

    key = jax.random.key(2)
    np.testing.assert_array_equal(jax.jit(draw, out_shardings=split)(key), jax.jit(draw)(key))
