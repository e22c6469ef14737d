"""Small models on frozen features: a linear one, and one that attends to the tokens."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mgmae_jax.models.layers import LayerNorm, Mlp
from mgmae_jax.ops.attention import attention

_KERNEL_INIT = nn.initializers.normal(0.02)


class LinearProbe(nn.Module):
    """A linear classifier."""

    classes: int

    @nn.compact
    def __call__(self, features: Float[Array, "B D"]) -> Float[Array, "B classes"]:
        """Returns logits."""
        return nn.Dense(self.classes, kernel_init=_KERNEL_INIT, name="head")(features)


class AttentiveProbe(nn.Module):
    """A learned query attends to the tokens of a clip, in one block of a transformer; then a linear classifier.

    Frozen video encoders have been probed like this since V-JEPA (arXiv 2404.08471, section 4): cross-attention with
    the query as the residual, and an MLP.

    Args:
      classes: number of classes.
      heads: number of attention heads.
    """

    classes: int
    heads: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B classes"]:
        """Returns logits."""
        batch, count, width = tokens.shape
        dense = functools.partial(nn.Dense, kernel_init=_KERNEL_INIT)
        query = self.param("query", _KERNEL_INIT, (width,)).reshape(1, 1, width)
        x = LayerNorm(name="norm1")(tokens)
        key = dense(width, name="key")(x).reshape(batch, count, self.heads, -1)
        value = dense(width, name="value")(x).reshape(batch, count, self.heads, -1)
        asked = dense(width, name="query_proj")(query)
        asked = jnp.broadcast_to(asked, (batch, 1, width)).reshape(batch, 1, self.heads, -1)
        found = attention(asked, key, value).reshape(batch, 1, width)
        y = query + dense(width, name="proj")(found)
        y = y + Mlp(4 * width, jnp.float32, _KERNEL_INIT, name="mlp")(LayerNorm(name="norm2")(y))
        return dense(self.classes, name="head")(y[:, 0])
