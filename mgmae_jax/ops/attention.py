"""Attention, behind one name."""

import functools
from typing import Literal

import jax
from jaxtyping import Array, Float

Implementation = Literal["xla", "cudnn"]


def attention(
    query: Float[Array, "B N heads d"],
    key: Float[Array, "B M heads d"],
    value: Float[Array, "B M heads d"],
    implementation: Implementation = "xla",
) -> Float[Array, "B N heads d"]:
    """Scaled dot-product attention without a mask; the softmax is taken in float32.

    "cudnn" is NVIDIA's fused kernel: half precision, head size a multiple of 8. Like it, "xla" computes the probabilities
    again in the backward pass: kept, those of the decoder's 1568 tokens would be the largest part of a step's memory.
    """
    attend = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    # JAX's own implementation mixes float32 and bfloat16 where a strict session forbids it.
    with jax.numpy_dtype_promotion("standard"):
        return (attend if implementation == "cudnn" else jax.checkpoint(attend))(query, key, value)
