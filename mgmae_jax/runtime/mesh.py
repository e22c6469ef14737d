"""The device mesh ("data", "fsdp"), the sharding rules over it, and the one transfer of a batch onto it.

The batch is split over both axes; parameters and optimiser state are split only over "fsdp". `fsdp=1` is plain data
parallelism; `fsdp=` the devices of one host (or more) is fully sharded data parallelism.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.runtime.share import Share

AXES = ("data", "fsdp")
_SMALLEST_SHARDED = 2**16  # elements; gathering anything smaller costs more than the freed memory is worth


def make_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays the devices out as a mesh of shape ("data", "fsdp"), which follows the network between them.

    On a TPU slice neighbours in the mesh are neighbours in the torus, which is not the order of the processes: see
    `process_share`. Over several slices, parameters are split within a slice, unless `fsdp` is larger than it.

    Args:
      fsdp: the number of neighbouring devices that each large parameter is split over, at least 1.
      devices: the devices of all processes; all that JAX sees by default.

    Returns:
      A mesh whose axes are `Auto`: the compiler places the intermediate values (`jax.make_mesh` defaults to
      `Explicit`, where shardings are part of the types).

    Raises:
      ConfigError: see `check_fsdp`.
      MgmaeError: the slices, which on GPUs are the hosts, have different numbers of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = collections.Counter(getattr(device, "slice_index", 0) for device in devices)
    slices, each = len(sizes), len(devices) // len(sizes)
    if len(set(sizes.values())) > 1:
        counts = " and ".join(str(count) for _, count in sorted(sizes.items()))
        raise MgmaeError(
            f"the {slices} slices have {counts} devices: a mesh needs the same number in each. Start the run on "
            "as many devices of every slice; on GPUs, a slice is a host."
        )
    check_fsdp(fsdp, len(devices), slices)
    within = (each // min(fsdp, each), min(fsdp, each))
    # Splitting an axis of the torus lets any divisor be laid out, at the price of some bandwidth.
    if slices == 1:
        grid = create_device_mesh(within, devices, allow_split_physical_axes=True)
    else:
        between = (slices * min(fsdp, each) // fsdp, fsdp // min(fsdp, each))
        grid = create_hybrid_device_mesh(within, between, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


def check_fsdp(fsdp: int, devices: int, slices: int = 1) -> None:
    """Checks that so many devices, in slices of one size, can be laid out as a mesh.

    Raises:
      ConfigError: `fsdp` does not divide the number of devices, or neither divides those of a slice nor is a multiple
        of them.
    """
    if fsdp < 1 or devices % fsdp:
        raise ConfigError("mesh.fsdp", fsdp, f"a divisor of the number of devices, which is {devices}")
    each = devices // slices
    if each % fsdp and fsdp % each:
        want = f"a divisor or a multiple of the devices of a slice, which are {each} ({slices} slices)"
        raise ConfigError("mesh.fsdp", fsdp, want)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its leading axis over every device, the other axes whole."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def parameter_spec(shape: Sequence[int], fsdp: int) -> PartitionSpec:
    """Says how a parameter (or its optimiser state) is split: a pure function of its shape.

    Args:
      shape: the shape of the whole parameter.
      fsdp: the size of the mesh axis "fsdp".

    Returns:
      "fsdp" on the largest dimension that it divides (the last such), or no split if the parameter has fewer than 2**16
      elements or no dimension is divisible.
    """
    dividing = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or math.prod(shape) < _SMALLEST_SHARDED or not dividing:
        return PartitionSpec()
    largest = max(dividing, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*[None] * largest, "fsdp")


def tree_shardings(mesh: Mesh, abstract_tree: Any) -> Any:
    """Applies `parameter_spec` to every leaf.

    Args:
      mesh: the devices, from `make_mesh`.
      abstract_tree: a pytree of anything with a shape, as from `jax.eval_shape`.

    Returns:
      The same pytree of `NamedSharding`.
    """
    fsdp = mesh.shape["fsdp"]
    return jax.tree.map(lambda leaf: NamedSharding(mesh, parameter_spec(leaf.shape, fsdp)), abstract_tree)


def abstract_on(mesh: Mesh, make: Callable[..., Any], *arguments: Any) -> Any:
    """The shapes of what `make` returns, with their shardings on a mesh, without computing it."""
    shapes = jax.eval_shape(make, *arguments)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        tree_shardings(mesh, shapes),
    )


def make_on(abstract: Any, make: Callable[..., Any], *arguments: Any) -> Any:
    """Makes a pytree in place, from `arguments` on the mesh: no device ever holds more than its share."""
    return jax.jit(make, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))(*arguments)


def check_divides(field: str, count: int, mesh: Mesh, views: int = 1) -> None:
    """Checks that `count` examples, from config.FIELD, with the given number of views each, divide over the devices.

    Raises:
      ConfigError: they do not.
    """
    if count < 1 or count * views % mesh.size:
        raise ConfigError(field, count, f"a multiple of the number of devices, which is {mesh.size}")


def process_share(mesh: Mesh) -> Share:
    """The share of each batch that this process reads: what its devices hold."""
    here = jax.process_index()
    slots = tuple(slot for slot, device in enumerate(mesh.devices.flat) if device.process_index == here)
    return Share(slots, mesh.size)


def put_batch(local: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves this process's share of a batch to its devices, as a part of the global batch.

    Args:
      local: arrays [local batch, ...] of the same leading size in every process: the rows of the global batch that
        `process_share` names, in their order.
      mesh: the devices, from `make_mesh`.

    Returns:
      Global arrays [global batch, ...], split over every device.

    Raises:
      ConfigError: the leading size does not divide over this process's devices.
    """
    share, sharding = process_share(mesh), batch_sharding(mesh)

    def put(array: np.ndarray) -> jax.Array:
        batch = len(array) * mesh.size // len(share.slots)
        check_divides("train.batch_size", batch, mesh)
        each = batch // mesh.size
        parts = [
            jax.device_put(array[i * each : (i + 1) * each], mesh.devices.flat[slot])
            for i, slot in enumerate(share.slots)
        ]
        return jax.make_array_from_single_device_arrays((batch, *array.shape[1:]), sharding, parts)

    # An intended transfer; with several processes JAX would treat it as an implicit one.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: put(array) for name, array in local.items()}


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """Replicates arrays on every device, including those of other processes.

    Args:
      tree: a pytree of arrays or random keys, the same in every process.
      mesh: the devices, from `make_mesh`.

    Returns:
      The same pytree of global arrays.
    """
    # `jax.device_put` cannot move a key to another process's devices. The transfer is intended.
    with jax.transfer_guard("allow"):
        return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)
