"""The flow weights that a command asks for."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from mgmae_jax.errors import ConfigError
from mgmae_jax.interop.flow_weights import load_flow_weights

BUNDLED = "bundled"


def load_flow_params(weights: str) -> Mapping[str, Any]:
    """RAFT-small's parameters from the file `weights`, or with "bundled" those that come with the package.

    Raises:
      ConfigError: no file is given.
      WeightsError: the file is not RAFT-small's weights.
    """
    if not weights:
        want = f"{BUNDLED}, or a file of RAFT-small's weights (.safetensors or PyTorch's .pth)"
        raise ConfigError("flow.weights", weights, want)
    if weights != BUNDLED:
        return load_flow_weights(weights)
    with resources.as_file(resources.files("mgmae_jax") / "flow" / "weights" / "raft_small.safetensors") as path:
        return load_flow_weights(path)
