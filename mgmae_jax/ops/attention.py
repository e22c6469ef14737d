"""Attention, behind one name."""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mgmae_jax.errors import ConfigError

Implementation = Literal["xla", "cudnn"]


def attention(
    query: Float[Array, "B N heads d"],
    key: Float[Array, "B M heads d"],
    value: Float[Array, "B M heads d"],
    implementation: Implementation = "xla",
) -> Float[Array, "B N heads d"]:
    """Scaled dot-product attention without a mask; the softmax is taken in float32.

    "cudnn" is NVIDIA's fused kernel: half precision, head size a multiple of 8. "xla" is JAX's own, and on a CPU
    `attend_by_products`; the choice is made when the program is lowered.
    """
    attend = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    # JAX's own implementation mixes float32 and bfloat16 where a strict session forbids it.
    with jax.numpy_dtype_promotion("standard"):
        if implementation == "cudnn":
            return attend(query, key, value)
        found: Array = jax.lax.platform_dependent(query, key, value, cpu=attend_by_products, default=attend)
        return found


def attend_by_products(
    query: Float[Array, "B N heads d"], key: Float[Array, "B M heads d"], value: Float[Array, "B M heads d"]
) -> Float[Array, "B N heads d"]:
    """The same, with the softmax's sum as one more column of the product with the values.

    Sums over the last axis of the probabilities, which the usual softmax takes forward and backward, are slow on XLA's
    CPU backend: without them a ViT-B step takes three fifths of the time.
    """
    logits = jnp.einsum("bnhd,bmhd->bhnm", query * query.shape[-1] ** -0.5, key, preferred_element_type=jnp.float32)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))).astype(value.dtype)
    with_ones = jnp.concatenate([value, jnp.ones_like(value[..., :1])], axis=-1)
    sums = jnp.einsum("bhnm,bmhd->bnhd", weights, with_ones, preferred_element_type=jnp.float32)
    return (sums[..., :-1] / sums[..., -1:]).astype(value.dtype)


def find_implementation(name: str) -> Implementation:
    """The implementation called `name` (config.model.attention).

    Raises:
      ConfigError: there is no such implementation.
    """
    implementations: tuple[Implementation, ...] = get_args(Implementation)
    for implementation in implementations:
        if implementation == name:
            return implementation
    raise ConfigError("model.attention", name, "one of " + ", ".join(implementations))
