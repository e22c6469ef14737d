"""Attention, behind one name."""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.placement import over_batch, traced_platform

Implementation = Literal["auto", "xla", "cudnn"]
_HALF = ("bfloat16", "float16")


def attention(
    query: Float[Array, "B N heads d"],
    key: Float[Array, "B M heads d"],
    value: Float[Array, "B M heads d"],
    implementation: Implementation = "auto",
) -> Float[Array, "B N heads d"]:
    """Scaled dot-product attention without a mask; the softmax is taken in float32.

    "auto" is a kernel that never writes the N x M matrix, where there is one: cuDNN's on an NVIDIA GPU, in half
    precision; splash attention on a TPU. Elsewhere it is "xla": JAX's own, and on a CPU `attend_by_products`; that
    choice is made when the program is lowered. "cudnn" insists on NVIDIA's kernel.

    Raises:
      ConfigError: that kernel is insisted on where it cannot run.
    """
    if implementation == "cudnn":
        _check_cudnn(str(query.dtype))
    if implementation == "auto" and traced_platform() == "tpu":
        # Imported here, because it takes a while and only TPUs need it.
        from mgmae_jax.ops.splash_attention import splash_attention

        if (split := over_batch(splash_attention, query.shape[0])) is not None:
            return split(query, key, value)
    fused = implementation == "cudnn" or (implementation == "auto" and cudnn_takes(query))
    attend = functools.partial(jax.nn.dot_product_attention, implementation="cudnn" if fused else "xla")
    # JAX's own implementation mixes float32 and bfloat16 where a strict session forbids it.
    with jax.numpy_dtype_promotion("standard"):
        if fused:
            return attend(query, key, value)
        found: Array = jax.lax.platform_dependent(query, key, value, cpu=attend_by_products, default=attend)
        return found


def cudnn_takes(query: Float[Array, "B N heads d"]) -> bool:
    """Whether cuDNN's kernel runs here with queries of this type and head size: half precision, 8, 16, ... 128."""
    if str(query.dtype) not in _HALF or query.shape[-1] % 8 or query.shape[-1] > 128:
        return False
    return traced_platform() == "gpu" and _compute_capability() >= 8.0


def _check_cudnn(dtype: str) -> None:
    platform = traced_platform()
    if platform == "gpu" and dtype in _HALF:
        return
    here = f"in {dtype}" if platform == "gpu" else f"on a {platform}"
    want = f"auto or xla {here}; cuDNN's needs an NVIDIA GPU and model.dtype=bfloat16"
    raise ConfigError("model.attention", "cudnn", want)


def _compute_capability() -> float:
    """That of the first NVIDIA GPU, such as 9.0; 0 for GPUs of others."""
    try:
        return float(jax.local_devices()[0].compute_capability)
    except (AttributeError, ValueError):
        return 0.0


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
