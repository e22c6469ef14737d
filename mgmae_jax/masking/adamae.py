"""AdaMAE: a network learns which tokens to show (Bandara et al., CVPR 2023, arXiv 2211.09120).

One transformer block and a linear layer give each token a probability; the visible tokens are drawn from these without
replacement. The network is rewarded for the expected reconstruction error: a hidden token that was predicted badly
becomes more probable to be shown (its sampling loss).

It differs from the authors' program in three things. The network sees the encoder's patch embeddings without a
gradient, so that its loss trains it alone; there the gradient reaches the embedding. It has no dropout, so that the
loss is of the probabilities that were drawn from. And it has as many of the 8 heads as divide the width.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.ops.attention import attention
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit
from mgmae_jax.runtime.rng import named_key

_HEADS = 8
# Flax's default, E[x^2] - E[x]^2, loses precision if the mean is large.
_LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-5, use_fast_variance=False)
_Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())


class SamplingNetwork(nn.Module):
    """The network of one clip: learned positions, a pre-norm transformer block, a score for each token.

    `models.layers.Block` is not used: it splits its batch over the devices, and this is inside of a clip.
    """

    @nn.compact
    def __call__(self, tokens: Float[Array, "N D"]) -> Float[Array, "N"]:
        """Returns the logarithm of each token's probability, up to a constant."""
        width = tokens.shape[-1]
        heads = math.gcd(_HEADS, width)
        x = tokens + self.param("positions", nn.initializers.zeros, tokens.shape)
        qkv = _Dense(3 * width, use_bias=False, name="qkv")(_LayerNorm(name="norm1")(x))
        query, key, value = (part.reshape(1, -1, heads, width // heads) for part in jnp.split(qkv, 3, axis=-1))
        y = attention(query, key, value, "xla").reshape(tokens.shape)
        x = x + _Dense(width, name="proj")(y)
        y = _Dense(4 * width, name="fc1")(_LayerNorm(name="norm2")(x))
        x = x + _Dense(width, name="fc2")(jax.nn.gelu(y, approximate=False))
        return _Dense(1, name="head")(x)[:, 0]


def init_adamae(key: Key[Array, ""], grid: TokenGrid, options: MaskOptions, width: int) -> Any:
    """The network's parameters; see `Strategy.init`."""
    return SamplingNetwork().init(key, jnp.zeros((grid.tokens, width)))["params"]


def log_probabilities(ask: MaskInput) -> Float[Array, "N"]:
    """Logarithm of the probability of each of a clip's tokens to be the first that is drawn."""
    if ask.tokens is None or ask.params is None:
        raise ValueError("AdaMAE masking needs tokens [N, D] and parameters, see init_adamae")
    with jax.named_scope("sampling_network"):
        return jax.nn.log_softmax(apply_module(SamplingNetwork(), ask.params, ask.tokens))


def adamae(ask: MaskInput) -> Int[Array, "V"]:
    """Tokens drawn without replacement by the network's probabilities (Gumbel's top-k)."""
    scores = jax.lax.stop_gradient(log_probabilities(ask))
    noise = jax.random.gumbel(named_key(ask.key, "select", DRAWS), scores.shape)
    return jax.lax.top_k(scores + noise, ask.count)[1]


def adamae_loss(ask: MaskInput, split: TokenSplit, errors: Float[Array, "K"]) -> Float[Array, ""]:
    """The sampling loss: minus the mean of log-probability times error over the hidden tokens.

    Its gradient is the policy gradient of the expected error. `mask.loss_weight` scales it; the authors' is 1e-4.
    """
    return -ask.options.loss_weight * (log_probabilities(ask)[split.target] * errors).mean()
