"""A name for a set of weights, so that a checkpoint can say which flow network it was trained with."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util


def weights_hash(params: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 over the names, types, shapes and bytes of `params`, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(traverse_util.flatten_dict(params, sep="/").items()):
        array = np.asarray(value, order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
