"""Weights that no run of this project made: a model of another program, as its file describes it."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from mgmae_jax.errors import WeightsError


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One parameter, which takes memory only when it is read.

    Attributes:
      shape: its shape.
      read: returns its values, of any floating-point type.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained model from a file, to be used in the place of a checkpoint.

    Attributes:
      name: what the user calls it.
      config: what the config.json of its run would say.
      classes: the names of a classifier's classes, by label; None for another model.
      leaves: its parameters by name: the path in the parameter tree, with dots.
      source: where it comes from, for run.json: file, checksum, revision.
      clip_known: whether it says which clips it was trained on, or config.clip only assumes them.
    """

    name: str
    config: ConfigDict
    classes: tuple[str, ...] | None
    leaves: Mapping[str, Leaf]
    source: Mapping[str, Any]
    clip_known: bool

    def values(self, name: str) -> np.ndarray:
        """The values of one parameter: float32, in memory of its own.

        Raises:
          WeightsError: a value is not finite.
        """
        found = np.array(self.leaves[name].read(), np.float32, order="C")
        if not np.isfinite(found).all():
            raise WeightsError(self.name, f"has values that are not finite float32 numbers in {name}")
        return found

    def restore(self, abstract: Any) -> Any:
        """The parameters of a tree, on the devices.

        Args:
          abstract: the tree, of `jax.ShapeDtypeStruct`; it has only parameters that are in `leaves`.

        Raises:
          WeightsError: see `values`.
        """

        def place(name: str, want: jax.ShapeDtypeStruct) -> jax.Array:
            values = self.values(name).astype(want.dtype, copy=False)
            if want.sharding is None:
                return jax.numpy.array(values)
            return jax.make_array_from_callback(want.shape, want.sharding, lambda index: values[index])

        flat = traverse_util.flatten_dict(abstract, sep=".")
        return traverse_util.unflatten_dict({name: place(name, want) for name, want in flat.items()}, sep=".")


Checkpoint = str | Path | Weights
"""What a command restores parameters from: a run's workdir or one of its checkpoints, or a file of another program."""
