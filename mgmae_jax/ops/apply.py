"""A Flax module applied to its parameters, as a function of arrays."""

from typing import Any, cast

from flax import linen as nn
from jaxtyping import Array


def apply_module(module: nn.Module, params: Any, *inputs: Any, method: str = "__call__", **options: Any) -> Array:
    """What a module computes from its inputs: one array.

    Flax's own `apply` is typed as if it might return a pair, which it does only if a module changes variables; no
    module here does.

    Args:
      module: the network.
      params: the module's parameters.
      inputs: the method's inputs.
      method: the name of the method to call.
      options: the method's keyword arguments.
    """
    return cast(Array, module.apply({"params": params}, *inputs, method=method, **options))
