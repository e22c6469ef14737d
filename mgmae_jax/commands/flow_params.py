"""The flow weights that a command asks for."""

from collections.abc import Mapping
from typing import Any

from mgmae_jax.errors import ConfigError
from mgmae_jax.interop.flow_weights import load_flow_weights


def load_flow_params(weights: str) -> Mapping[str, Any]:
    """RAFT-small's parameters from the file `weights`.

    Raises:
      ConfigError: no file is given.
      WeightsError: the file is not RAFT-small's weights.
    """
    if not weights:
        want = "a file of RAFT-small's weights (.safetensors or PyTorch's .pth), or use config.flow.source=tvl1"
        raise ConfigError("flow.weights", weights, want)
    return load_flow_weights(weights)
