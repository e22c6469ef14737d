"""Models of this project as one safetensors file: parameters under their own names, config and classes beside them."""

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict

from mgmae_jax.errors import FileError, WeightsError
from mgmae_jax.interop.tensor_files import TensorFile, forget_pages, open_tensors
from mgmae_jax.runtime.files import REMEDY, whole_file
from mgmae_jax.runtime.weights import Leaf, Weights

FORMAT = "mgmae-jax"
_SAFETENSORS_START = b"{"


def read_own(path: Path) -> Weights | None:
    """A model that `write_own` wrote; None if the file is something else, or cannot be read, which `read_model` says.

    Raises:
      WeightsError: it is such a file, and damaged.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return None
    if head[8:] != _SAFETENSORS_START:
        return None
    found = open_tensors(path)
    if found.metadata.get("format") != FORMAT:
        return None
    try:
        config = ConfigDict(json.loads(found.metadata["config"]))
        names = json.loads(found.metadata["classes"])
        if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
            raise ValueError("classes that are not a list of names")
        classes = None if names is None else tuple(names)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(path, f"its metadata cannot be read ({error!r:.200})") from error
    return Weights(str(path), config, classes, _leaves(found), {"from": str(path)}, True)


def _leaves(found: TensorFile) -> dict[str, Leaf]:
    def read(tensor: np.ndarray) -> np.ndarray:
        values = np.array(tensor)
        forget_pages(tensor)
        return values

    return {name: Leaf(tensor.shape, functools.partial(read, tensor)) for name, tensor in found.tensors.items()}


def write_own(path: Path, weights: Weights) -> None:
    """Writes a model as one safetensors file, whole or not at all.

    Raises:
      FileError: it cannot be written.
      WeightsError: a value is not finite.
    """
    metadata = {
        "format": FORMAT,
        "config": json.dumps(weights.config.to_dict()),
        "classes": json.dumps(weights.classes),
        "source": json.dumps(dict(weights.source)),
    }
    write_tensors(path, ((name, weights.values(name)) for name in weights.leaves), metadata)


def write_tensors(path: Path, tensors: Iterable[tuple[str, np.ndarray]], metadata: Mapping[str, str]) -> None:
    """Writes tensors as safetensors, whole or not at all.

    Raises:
      FileError: it cannot be written.
    """
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors}
    with whole_file(path) as partial:
        try:
            safetensors.numpy.save_file(whole, partial, dict(metadata))
        except safetensors.SafetensorError as error:  # in the place of an OSError
            raise FileError(path, f"cannot be written ({error}): {REMEDY}") from error
