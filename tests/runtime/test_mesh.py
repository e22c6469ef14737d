import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.mesh import batch_sharding, make_mesh, parameter_spec, put_batch, replicated, tree_shardings


@pytest.mark.parametrize("fsdp", [1, 2, 4, 8])
def test_mesh_takes_every_device_and_its_axes_are_auto(fsdp: int):
    mesh = make_mesh(fsdp)
    assert dict(mesh.shape) == {"data": 8 // fsdp, "fsdp": fsdp}
    assert mesh.axis_types == (AxisType.Auto, AxisType.Auto)


@pytest.mark.parametrize("fsdp", [0, -1, 3, 16])
def test_fsdp_must_divide_the_devices(fsdp: int):
    with pytest.raises(ConfigError, match=rf"config.mesh.fsdp={fsdp}: .*which is 8"):
        make_mesh(fsdp)


def test_mesh_of_some_devices():
    assert make_mesh(devices=jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
    ("shape", "fsdp", "want"),
    [
        ((768, 3072), 4, PartitionSpec(None, "fsdp")),
        ((3072, 768), 4, PartitionSpec("fsdp")),
        ((768, 768), 4, PartitionSpec(None, "fsdp")),
        ((2, 16, 16, 3, 768), 4, PartitionSpec(None, None, None, None, "fsdp")),
        ((1001, 768), 4, PartitionSpec(None, "fsdp")),
        ((1001, 767), 4, PartitionSpec()),
        ((768,), 4, PartitionSpec()),
        ((255, 256), 4, PartitionSpec()),
        ((256, 256), 4, PartitionSpec(None, "fsdp")),
        ((768, 3072), 1, PartitionSpec()),
        ((), 8, PartitionSpec()),
    ],
)
def test_parameter_spec(shape: tuple[int, ...], fsdp: int, want: PartitionSpec):
    assert parameter_spec(shape, fsdp) == want


@given(st.lists(st.integers(1, 600), max_size=4), st.sampled_from([1, 2, 4, 8, 3]))
def test_parameter_spec_splits_evenly_or_not_at_all(shape: list[int], fsdp: int):
    spec = parameter_spec(shape, fsdp)
    split = [axis for axis, name in enumerate(spec) if name == "fsdp"]
    assert len(split) <= 1
    for axis in split:
        assert shape[axis] % fsdp == 0
        assert math.prod(shape) >= 2**16


def test_a_state_is_created_sharded():
    mesh = make_mesh(4)

    def init() -> dict[str, jax.Array]:
        return {"w": jnp.ones((512, 256)), "b": jnp.zeros((256,))}

    shardings = tree_shardings(mesh, jax.eval_shape(init))
    state = jax.jit(init, out_shardings=shardings)()
    assert state["w"].addressable_shards[0].data.shape == (128, 256)
    assert state["b"].is_fully_replicated
    assert replicated(mesh).is_fully_replicated


def test_put_batch_splits_over_every_device_in_order_under_the_transfer_guard():
    mesh = make_mesh(2)
    batch = {
        "clips": np.arange(16 * 2 * 3, dtype=np.uint8).reshape(16, 2, 3),
        "labels": np.arange(16, dtype=np.int32),
    }
    with jax.transfer_guard("disallow"):
        placed = put_batch(batch, mesh)
    for name, array in batch.items():
        assert placed[name].sharding.is_equivalent_to(batch_sharding(mesh), array.ndim)
        assert placed[name].dtype == array.dtype
        assert placed[name].addressable_shards[0].data.shape[0] == 2
        np.testing.assert_array_equal(placed[name], array)


@pytest.mark.parametrize("rows", [0, 4, 12])
def test_the_batch_must_divide_over_the_devices(rows: int):
    with pytest.raises(ConfigError, match=rf"config.train.batch_size={rows}: give a multiple .* is 8"):
        put_batch({"clips": np.zeros((rows, 2))}, make_mesh())
