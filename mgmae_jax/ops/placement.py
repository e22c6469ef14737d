"""Where intermediate values lie on a mesh of devices."""

import contextlib
from collections.abc import Iterator

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
