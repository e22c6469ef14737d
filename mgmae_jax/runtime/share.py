"""The share of each global batch that one process reads; no jax here, since data workers use it.

On a TPU slice the devices of a mesh are not in the order of their processes: on v5e:4x4, the first devices belong to
the processes 0, 0, 1, 1, 1, 1, 0, 2. A process reads the examples that its own devices hold, wherever they are in the
batch, so that the global batch is the same on any machine.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mgmae_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Share:
    """A process's share of every batch, which is split evenly over the devices of a mesh, in the mesh's order.

    Args:
      slots: the places of this process's devices in the mesh, increasing.
      of: how many devices the mesh has.
    """

    slots: tuple[int, ...] = (0,)
    of: int = 1

    def rows(self, batch: int) -> np.ndarray:
        """The places in a global batch of what this process's devices hold: int64, increasing.

        Args:
          batch: the rows of the global batch, a multiple of `of`.
        """
        each = batch // self.of
        return (np.array(self.slots, np.int64)[:, None] * each + np.arange(each)).ravel()

    def examples(self, batch_size: int, views: int = 1) -> np.ndarray:
        """The places in a global batch of the examples that this process reads: int64, increasing.

        Args:
          batch_size: examples in the global batch.
          views: rows that each example becomes.

        Raises:
          ConfigError: the rows do not divide over the devices, or an example would be split between processes.
        """
        if batch_size < 1 or batch_size * views % self.of:
            want = f"a multiple of the number of devices, which is {self.of}"
            raise ConfigError("train.batch_size", batch_size, want)
        rows = self.rows(batch_size * views)
        found = rows[::views] // views
        if not np.array_equal(rows, (found[:, None] * views + np.arange(views)).ravel()):
            want = f"a multiple of the number of devices, which is {self.of}: a process would hold half of an example"
            raise ConfigError("train.batch_size", batch_size, want)
        return found
