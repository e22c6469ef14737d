"""Where intermediate values lie on a mesh of devices."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Shaped


@contextlib.contextmanager
def placed_on(mesh: Mesh) -> Iterator[None]:
    """While a function is traced in this block, `split_batch` splits over this mesh."""
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        yield


def on_mesh(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The same function, to be jitted for arrays on this mesh.

    Whatever has a model in it has to be traced so. Otherwise a kernel that XLA cannot split, such as a TPU's for
    attention, is an error in a program of several devices.
    """

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with placed_on(mesh):
            return function(*arguments)

    return traced


def split_batch(x: Shaped[Array, "B ..."]) -> Shaped[Array, "B ..."]:
    """Keeps activations split by their examples, over all devices of the mesh being traced for, if there is one.

    Without this, XLA may gather the activations of a few examples rather than the parameters that are split over
    "fsdp": each device would then compute a part of every example.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or x.shape[0] % mesh.size:
        return x
    split: Array = jax.lax.with_sharding_constraint(x, PartitionSpec(mesh.axis_names))
    return split


def traced_platform() -> str:
    """The platform that a program is being traced for: "cpu", "gpu" or "tpu".

    That of the mesh, which may be of devices that are not here, or else this process's default.
    """
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    if device is not None and device.device_kind.startswith("TPU"):
        return "tpu"
    return jax.default_backend()


def over_batch(function: Callable[..., Array], batch: int) -> Callable[..., Array] | None:
    """A function of arrays [batch, ...] that XLA cannot split itself, run on each device's own examples.

    Args:
      function: computes each example of its result from the same example of its arguments.
      batch: the number of examples.

    Returns:
      The same function for the mesh being traced for; None if it does not divide the batch.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function
    if batch % mesh.size:
        return None
    split = PartitionSpec(mesh.axis_names)
    return jax.shard_map(function, in_specs=split, out_specs=split, check_vma=False)


def over_parts(function: Callable[..., Any], batch: int, most: int) -> Callable[..., Any]:
    """A function of arrays [batch, ...] that is run on a part of each device's examples after another.

    What a part computes on its way then fits memory that is near and small. Parts are strided, so that every device has
    examples of its own in each of them.

    Args:
      function: computes each example of its results from the same example of its arguments, which are trees of arrays.
      batch: the number of examples.
      most: examples of a device in a part, if it divides the device's examples; else the next smaller divisor.

    Returns:
      The same function.
    """
    mesh = jax.sharding.get_abstract_mesh()
    devices = 1 if mesh.empty or batch % mesh.size else mesh.size
    own = batch // devices
    parts = next(parts for parts in range(1, own + 1) if own % parts == 0 and own // parts <= max(most, 1))
    if parts == 1:
        return function

    def in_parts(*trees: Any) -> Any:
        cut = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), trees)
        found = jax.lax.map(lambda part: function(*jax.tree.map(split_batch, part)), cut)
        return jax.tree.map(lambda x: split_batch(x.swapaxes(0, 1).reshape(batch, *x.shape[2:])), found)

    return in_parts
