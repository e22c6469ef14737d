"""RAFT-small weights from and to files: safetensors, or what PyTorch's `torch.save` writes."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from mgmae_jax.errors import ConfigError, WeightsError
from mgmae_jax.flow.raft import init_params
from mgmae_jax.interop.tensor_files import open_tensors
from mgmae_jax.interop.torch_raft import params_from_torch
from mgmae_jax.runtime.files import whole_file

BUNDLED = "bundled"
"""The name of the weights that ship with the package."""
_SHOWN = 3


def load_flow_params(weights: str) -> Mapping[str, Any]:
    """RAFT-small's parameters from the file `weights`, or with "bundled" those that ship with the package.

    Raises:
      ConfigError: no file was given.
      WeightsError: the file is not RAFT-small's weights.
    """
    if not weights:
        want = f"{BUNDLED}, or a file of RAFT-small's weights (.safetensors or PyTorch's .pth)"
        raise ConfigError("flow.weights", weights, want)
    if weights != BUNDLED:
        return load_flow_weights(weights)
    with resources.as_file(resources.files("mgmae_jax") / "flow" / "weights" / "raft_small.safetensors") as path:
        return load_flow_weights(path)


def load_flow_weights(path: str | Path, take: str | None = None) -> dict[str, Any]:
    """Reads and checks the weights of `flow.raft.RaftSmall`.

    Args:
      path: a safetensors file, with this project's names (HWIO kernels) or PyTorch's (OIHW); or a PyTorch state dict,
        in either of its formats. PyTorch's names may be those of princeton-vl/RAFT or of torchvision. The format is
        detected from the contents, not from the name.
      take: which state dict of a PyTorch file, as for `open_tensors`.

    Returns:
      The parameters, nested dicts of float32 numpy arrays.

    Raises:
      WeightsError: no such file, damaged, not RAFT-small (with the tensors that differ), or with values that are not
        finite.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(path, "cannot be read (it is a folder): give a file")
    tensors: Mapping[str, np.ndarray] = open_tensors(path, take).tensors
    if not any(name.endswith(".kernel") for name in tensors):
        tensors = traverse_util.flatten_dict(params_from_torch(tensors, str(path)), sep=".")
    _check_raft_small(path, tensors)
    tensors = {name: np.asarray(tensor, np.float32, order="C") for name, tensor in tensors.items()}
    _check_finite(path, tensors)
    return traverse_util.unflatten_dict(tensors, sep=".")


def save_flow_weights(path: str | Path, params: Mapping[str, Any], dtype: type = np.float32) -> None:
    """Writes weights as safetensors under this project's names ("feature_encoder.stem.kernel"), whole or not at all.

    Args:
      path: the file, in a folder that exists.
      params: the parameters of `RaftSmall`.
      dtype: np.float32 or np.float16.

    Raises:
      FileError: a value does not fit `dtype`, or the file cannot be written.
    """
    path = Path(path)
    tensors: dict[str, np.ndarray] = {}
    for name, value in traverse_util.flatten_dict(params, sep=".").items():
        with np.errstate(over="ignore"):
            tensors[name] = np.asarray(value, dtype, order="C")
    _check_finite(path, tensors)
    with whole_file(path) as partial:
        partial.write_bytes(safetensors.numpy.save(tensors))


def _check_raft_small(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    wanted = traverse_util.flatten_dict(jax.eval_shape(lambda: init_params(jax.random.key(0))), sep=".")
    unexpected = sorted(tensors.keys() - wanted.keys())
    wrong = [
        f"{name} {tensors[name].dtype}{list(tensors[name].shape)} for float32{list(want.shape)}"
        for name, want in wanted.items()
        if name in tensors
        and (tensors[name].shape != want.shape or not jnp.issubdtype(tensors[name].dtype, jnp.floating))
    ]
    lists = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": unexpected,
        "of another shape or type": wrong,
    }
    if any(lists.values()):
        reason = "is not RAFT-small: " + "; ".join(f"{kind} {_first(names)}" for kind, names in lists.items() if names)
        output = tensors.get("feature_encoder.out.kernel")
        if any("mask" in name for name in unexpected) or (output is not None and output.shape[-1] == 256):
            reason += ". This is RAFT-large; RAFT-small is needed"
        raise WeightsError(path, reason)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _check_finite(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    broken = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if broken:
        kind = tensors[broken[0]].dtype
        raise WeightsError(path, f"has values that are not finite {kind} numbers in {_first(broken)}")
