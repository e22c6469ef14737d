"""The parts of a vision transformer, as VideoMAE has them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from mgmae_jax.ops.attention import Implementation, attention
from mgmae_jax.ops.placement import split_batch

NORM_EPS = 1e-6
"""What the published models add to a variance before its root is taken."""

# Flax's default, E[x^2] - E[x]^2, loses precision if the mean is large.
LayerNorm = functools.partial(nn.LayerNorm, epsilon=NORM_EPS, use_fast_variance=False)
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())


def drop_path_scales(keys: Key[Array, "B"], rate: float, depth: int) -> Float[Array, "depth 2 B"]:
    """Stochastic depth: the factors on each block's two branches, for each example.

    Args:
      keys: one for each example.
      rate: probability, 0 or more and below 1, that the last block's branches are dropped; it grows linearly from 0 in
        the first block.
      depth: number of blocks.

    Returns:
      For every block, branch (attention, MLP) and example: 0, or 1 / (1 - probability) to keep the mean.
    """
    keep = (1 - np.linspace(0, rate, depth, dtype=np.float32)).reshape(depth, 1)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, (depth, 2)), out_axes=-1)(keys)
    return kept.astype(jnp.float32) / keep[..., None]


def position_table(tokens: int, width: int) -> Float[np.ndarray, "{tokens} {width}"]:
    """Fixed sine-cosine table over the flattened token index; sines on even channels, cosines on odd."""
    channel = np.arange(width) // 2 * 2
    angle = np.arange(tokens)[:, None] / 10000.0 ** (channel / width)
    return np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)


class Attention(nn.Module):
    """Self-attention with one bias-free projection to queries, keys and values, and learned biases on q and v only."""

    heads: int
    dtype: DTypeLike
    implementation: Implementation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """Returns the attended tokens."""
        dense = functools.partial(nn.Dense, kernel_init=self.kernel_init, dtype=self.dtype)
        batch, tokens, width = x.shape
        qkv = split_batch(dense(3 * width, use_bias=False, name="qkv")(x))
        # The key's bias is fixed at zero: it shifts all logits of a query equally.
        biases = [self.param(name, nn.initializers.zeros, (width,)).astype(self.dtype) for name in ("q_bias", "v_bias")]
        qkv = qkv + jnp.concatenate([biases[0], jnp.zeros_like(biases[0]), biases[1]]).reshape(1, 1, -1)
        query, key, value = (
            part.reshape(batch, tokens, self.heads, width // self.heads) for part in jnp.split(qkv, 3, axis=-1)
        )
        out = attention(query, key, value, self.implementation).reshape(batch, tokens, width)
        return split_batch(dense(width, name="proj")(out))


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between them."""

    hidden: int
    dtype: DTypeLike
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """Returns the transformed tokens."""
        dense = functools.partial(nn.Dense, kernel_init=self.kernel_init, dtype=self.dtype)
        y = split_batch(jax.nn.gelu(split_batch(dense(self.hidden, name="fc1")(x)), approximate=False))
        return split_batch(dense(x.shape[-1], name="fc2")(y))


class Block(nn.Module):
    """Pre-norm transformer block."""

    heads: int
    mlp: int
    dtype: DTypeLike
    implementation: Implementation
    kernel_init: Initializer
    eps: float = NORM_EPS

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], scales: Float[Array, "2 B"] | None = None) -> Float[Array, "B N D"]:
        """Returns the tokens after attention and MLP, each added to its input, multiplied by its scale if given."""
        y = LayerNorm(epsilon=self.eps, dtype=self.dtype, name="norm1")(x)
        y = Attention(self.heads, self.dtype, self.implementation, self.kernel_init, name="attn")(y)
        x = x + (y if scales is None else y * _per_example(scales[0], y))
        y = LayerNorm(epsilon=self.eps, dtype=self.dtype, name="norm2")(x)
        y = Mlp(self.mlp, self.dtype, self.kernel_init, name="mlp")(y)
        return x + (y if scales is None else y * _per_example(scales[1], y))


def _per_example(scale: Float[Array, "B"], like: Float[Array, "B N D"]) -> Float[Array, "B 1 1"]:
    return scale.astype(like.dtype).reshape(-1, 1, 1)


class Blocks(nn.Module):
    """A stack of blocks and the norm after it.

    Args:
      remat: recompute each block in the backward pass, keeping only its input.
      kernel_init: draws the weight matrices; Xavier uniform in pre-training.
      norm: whether there is a norm after the blocks.
      eps: of the norms in the blocks.
      last_eps: of the norm after them.
    """

    depth: int
    heads: int
    mlp: int
    dtype: DTypeLike
    implementation: Implementation
    remat: bool
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    norm: bool = True
    eps: float = NORM_EPS
    last_eps: float = NORM_EPS

    @nn.compact
    def __call__(
        self, x: Float[Array, "B N D"], last: int | None = None, scales: Float[Array, "depth 2 B"] | None = None
    ) -> Float[Array, "B M D"]:
        """Returns the tokens, or the `last` ones of them, normalised; `scales` is from `drop_path_scales`."""
        block = nn.remat(Block) if self.remat else Block
        options = (self.heads, self.mlp, self.dtype, self.implementation, self.kernel_init, self.eps)
        for index in range(self.depth):
            x = block(*options, name=f"block_{index}")(split_batch(x), None if scales is None else scales[index])
        x = x if last is None else x[:, -last:]
        return split_batch(LayerNorm(epsilon=self.last_eps, dtype=self.dtype, name="norm")(x) if self.norm else x)
