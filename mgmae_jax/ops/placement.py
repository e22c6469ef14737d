"""Where intermediate values lie on a mesh of devices."""

import contextlib
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float


@contextlib.contextmanager
def placed_on(mesh: Mesh) -> Iterator[None]:
    """While a function is traced in this block, `split_batch` splits over this mesh."""
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        yield


def split_batch(x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
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
