"""A Flax module applied to its parameters, as a function of arrays."""

from typing import Any, cast

from flax import linen as nn
from jaxtyping import Array


def apply_module(module: nn.Module, params: Any, *inputs: Any, method: str = "__call__", **options: Any) -> Array:
    """What a module computes of its inputs: one array.

    Flax's own `apply` is typed as if it might return a pair, which it does only where a module changes variables; no
    module here has any.

    Args:
      module: the network.
      params: of the module.
      inputs: of the method.
      method: the name of the method that computes it.
      options: named arguments of the method.
    """
    return cast(Array, module.apply({"params": params}, *inputs, method=method, **options))
