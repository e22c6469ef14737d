"""The parts of a vision transformer, as VideoMAE has them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mgmae_jax.ops.attention import Implementation, attention

# Flax's default, E[x^2] - E[x]^2, loses digits where the mean is large.
LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-6, use_fast_variance=False)
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())


def position_table(tokens: int, width: int) -> Float[np.ndarray, "{tokens} {width}"]:
    """Fixed sine-cosine table over the flattened token index; sines on even channels, cosines on odd."""
    channel = np.arange(width) // 2 * 2
    angle = np.arange(tokens)[:, None] / 10000.0 ** (channel / width)
    return np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)


class Attention(nn.Module):
    """Self-attention with one bias-free projection to queries, keys and values, and learned biases on q and v alone."""

    heads: int
    dtype: DTypeLike
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """Returns the attended tokens."""
        batch, tokens, width = x.shape
        qkv = Dense(3 * width, use_bias=False, dtype=self.dtype, name="qkv")(x)
        # The key's bias is fixed at zero: it shifts all logits of a query alike.
        biases = [self.param(name, nn.initializers.zeros, (width,)).astype(self.dtype) for name in ("q_bias", "v_bias")]
        qkv = qkv + jnp.concatenate([biases[0], jnp.zeros_like(biases[0]), biases[1]]).reshape(1, 1, -1)
        query, key, value = (
            part.reshape(batch, tokens, self.heads, width // self.heads) for part in jnp.split(qkv, 3, axis=-1)
        )
        out = attention(query, key, value, self.implementation).reshape(batch, tokens, width)
        return Dense(width, dtype=self.dtype, name="proj")(out)


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between them."""

    hidden: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """Returns the transformed tokens."""
        y = jax.nn.gelu(Dense(self.hidden, dtype=self.dtype, name="fc1")(x), approximate=False)
        return Dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)


class Block(nn.Module):
    """Pre-norm transformer block."""

    heads: int
    mlp: int
    dtype: DTypeLike
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """Returns the tokens after attention and MLP, each added to its input."""
        y = LayerNorm(dtype=self.dtype, name="norm1")(x)
        x = x + Attention(self.heads, self.dtype, self.implementation, name="attn")(y)
        y = LayerNorm(dtype=self.dtype, name="norm2")(x)
        return x + Mlp(self.mlp, self.dtype, name="mlp")(y)


class Blocks(nn.Module):
    """A stack of blocks and the norm after it.

    Args:
      remat: compute each block again in the backward pass, keeping only its input.
    """

    depth: int
    heads: int
    mlp: int
    dtype: DTypeLike
    implementation: Implementation
    remat: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], last: int | None = None) -> Float[Array, "B M D"]:
        """Returns the tokens, or the `last` ones of them, normalised."""
        block = nn.remat(Block) if self.remat else Block
        for index in range(self.depth):
            x = block(self.heads, self.mlp, self.dtype, self.implementation, name=f"block_{index}")(x)
        return LayerNorm(dtype=self.dtype, name="norm")(x if last is None else x[:, -last:])
