"""`mgmae` with the devices of its mesh in another order than their processes, as on a TPU slice.

On v5e:4x4 the mesh's devices belong to the processes 0, 0, 1, 1, 1, 1, 0, 2, ...; on the CPU JAX keeps to their order.
"""

import sys
from collections.abc import Sequence

import jax
import numpy as np

from mgmae_jax import cli
from mgmae_jax.runtime import mesh

ORDER = (0, 4, 5, 1, 6, 2, 3, 7)  # of two processes with four devices each


def create_device_mesh(shape: Sequence[int], devices: Sequence[jax.Device], **_: object) -> np.ndarray:
    return np.array([devices[i] for i in ORDER]).reshape(shape)


if __name__ == "__main__":
    mesh.create_device_mesh = create_device_mesh
    sys.exit(cli.main(sys.argv[1:]))
