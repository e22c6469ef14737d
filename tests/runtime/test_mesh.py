import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.runtime import mesh as mesh_module
from mgmae_jax.runtime.mesh import batch_sharding, make_mesh, parameter_spec, put_batch, replicated, tree_shardings
from mgmae_jax.runtime.share import Share


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


@dataclasses.dataclass(frozen=True)
class FakeTpu:
    """What laying out a mesh asks of a TPU device."""

    id: int
    coords: tuple[int, ...]
    process_index: int
    slice_index: int
    device_kind: str
    platform: str = "tpu"
    core_on_chip: int = 0


def tpu_devices(kind: str, shape: tuple[int, ...], host: tuple[int, ...], slices: int = 1) -> list[FakeTpu]:
    """The devices of `slices` tori of a shape, in the order of the processes, each of which has a block of them."""
    found = []
    for piece in range(slices):
        for place in np.ndindex(*shape[::-1]):
            coords = place[::-1]
            hosts = [size // side for size, side in zip(shape, host, strict=True)]
            block = [coord // side for coord, side in zip(coords, host, strict=True)]
            process = piece * math.prod(hosts) + int(np.ravel_multi_index(block[::-1], hosts[::-1]))
            found.append(FakeTpu(0, (*coords, 0)[:3], process, piece, kind))
    found.sort(key=lambda device: (device.process_index, device.coords[::-1]))
    return [dataclasses.replace(device, id=i) for i, device in enumerate(found)]


V5E, V6E, V5P = "TPU v5 lite", "TPU v6 lite", "TPU v5"
TORI = {
    "v5e:4x4": (V5E, (4, 4), (2, 2)),
    "v5e:8x8": (V5E, (8, 8), (2, 4)),
    "v6e:8x8": (V6E, (8, 8), (2, 4)),
    "v5p:4x4x4": (V5P, (4, 4, 4), (2, 2, 1)),
}


@pytest.mark.parametrize("name", TORI)
@pytest.mark.parametrize("slices", [1, 2])
def test_every_divisor_of_a_tpu_slice_can_be_laid_out(name: str, slices: int):
    devices = tpu_devices(*TORI[name], slices)
    for fsdp in [2**power for power in range(len(devices).bit_length())]:
        mesh = make_mesh(fsdp, devices)
        assert dict(mesh.shape) == {"data": len(devices) // fsdp, "fsdp": fsdp}
        assert sorted(device.id for device in mesh.devices.flat) == list(range(len(devices)))
        # Parameters are split within a slice if they can be.
        within = [len({device.slice_index for device in row}) for row in mesh.devices]
        assert set(within) == {1 if fsdp <= len(devices) // slices else slices}


def test_a_tpu_mesh_is_not_in_the_order_of_the_processes():
    mesh = make_mesh(1, tpu_devices(*TORI["v5e:4x4"]))
    order = [device.process_index for device in mesh.devices.flat]
    assert order != sorted(order)


def test_an_fsdp_that_fits_no_slice():
    devices = tpu_devices(*TORI["v5e:4x4"], 3)
    with pytest.raises(ConfigError, match=r"mesh.fsdp=24: give .* a slice, which are 16 \(3 slices\)"):
        make_mesh(24, devices)


def test_slices_of_different_sizes():
    devices = tpu_devices(*TORI["v5e:4x4"], 2)[:-8]
    for fsdp in (1, 8):
        with pytest.raises(MgmaeError, match=r"the 2 slices have 16 and 8 devices: .* the same number in each"):
            make_mesh(fsdp, devices)


@pytest.mark.parametrize("order", [(0, 0, 1, 1, 2, 2, 3, 3), (0, 1, 2, 3, 3, 2, 1, 0), (2, 0, 2, 1, 3, 1, 0, 3)])
def test_put_batch_puts_each_process_s_rows_on_its_own_devices(order: tuple[int, ...], monkeypatch):
    # The processes of the devices are made up: each process's part is put by itself, and all of them are compared.
    whole = np.arange(16, dtype=np.int32)
    mesh = make_mesh(2)
    placed = {}
    for process in range(4):
        slots = tuple(slot for slot, owner in enumerate(order) if owner == process)
        share = Share(slots, 8)
        monkeypatch.setattr(mesh_module, "process_share", lambda mesh, share=share: share)
        monkeypatch.setattr(jax, "make_array_from_single_device_arrays", lambda shape, sharding, parts: (shape, parts))
        shape, parts = put_batch({"rows": whole[share.rows(16)]}, mesh)["rows"]
        assert shape == (16,)
        placed |= {part.device: np.asarray(part) for part in parts}
    expected = batch_sharding(mesh).devices_indices_map((16,))
    assert placed.keys() == expected.keys()
    for device, index in expected.items():
        np.testing.assert_array_equal(placed[device], whole[index])
