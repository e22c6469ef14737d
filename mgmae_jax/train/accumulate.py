"""Gradient accumulation: a batch worked on in parts, one after another, for one update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mgmae_jax.errors import ConfigError


def loss_and_grad(loss: Callable[[Any, Any], Array], params: Any, examples: Any, parts: int) -> tuple[Array, Any]:
    """The mean loss of a batch and its gradient.

    Args:
      loss: (params, examples) -> mean over the examples.
      params: a pytree.
      examples: a pytree of arrays [clips, ...].
      parts: how many the batch is worked on in: more take less memory and more time.

    Raises:
      ConfigError: the parts do not divide the clips.
    """
    clips = jax.tree.leaves(examples)[0].shape[0]
    if clips % parts:
        raise ConfigError("train.accumulate", parts, f"a divisor of the {clips} clips of a step")
    grad = jax.value_and_grad(loss)
    if parts == 1:
        return grad(params, examples)

    # Parts are strided, so that each device works on clips of its own in every part.
    def strided(array: Array) -> Array:
        return array.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, grad(params, part)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    total, _ = jax.lax.scan(add, zero, jax.tree.map(strided, examples))
    return jax.tree.map(lambda leaf: leaf / parts, total)
