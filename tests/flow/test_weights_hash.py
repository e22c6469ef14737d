import jax.numpy as jnp
import numpy as np

from mgmae_jax.flow.weights_hash import weights_hash

PARAMS = {"b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "a": np.zeros(2, np.float32)}


def test_order_of_the_dict_does_not_count():
    assert weights_hash(PARAMS) == weights_hash(dict(reversed(PARAMS.items())))
    assert len(weights_hash(PARAMS)) == 16


def test_device_arrays_and_other_memory_layouts_give_the_same():
    kernel = np.asfortranarray(PARAMS["b"]["kernel"])
    assert weights_hash({"b": {"kernel": kernel}, "a": jnp.zeros(2)}) == weights_hash(PARAMS)


def test_names_values_shapes_and_types_count():
    kernel = PARAMS["b"]["kernel"]
    others = [
        PARAMS | {"b": {"bias": kernel}},
        PARAMS | {"b": {"kernel": kernel + 1}},
        PARAMS | {"b": {"kernel": kernel.reshape(3, 2)}},
        PARAMS | {"a": np.zeros(2, np.int32)},
        {"b": PARAMS["b"]},
    ]
    assert len({weights_hash(params) for params in [PARAMS, *others]}) == 6
