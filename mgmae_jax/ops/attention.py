"""Attention, behind one name."""

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

    "cudnn" is NVIDIA's fused kernel: half precision, head size a multiple of 8.
    """
    return jax.nn.dot_product_attention(query, key, value, implementation=implementation)
