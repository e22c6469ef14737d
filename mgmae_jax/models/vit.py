"""The video transformer that encodes cubes."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mgmae_jax.models.layers import Blocks, Dense, position_table
from mgmae_jax.models.variants import Variant
from mgmae_jax.ops.attention import Implementation


class Encoder(nn.Module):
    """A vision transformer over the visible cubes of a clip, without a class token.

    Args:
      variant: the size.
      tokens: tokens of the whole clip, N: the length of the position table.
      dtype: of the activations; parameters are float32.
    """

    variant: Variant
    tokens: int
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "xla"
    remat: bool = False

    @nn.compact
    def __call__(self, cubes: Float[Array, "B V C"], indices: Int[Array, "B V"]) -> Float[Array, "B V D"]:
        """Encodes the cubes at `indices` of their clips.

        Args:
          cubes: pixels normalised by ImageNet's mean and standard deviation, values in order (frame, row, column,
            channel).
          indices: each cube's place in the clip.

        Returns:
          One normalised vector per cube.
        """
        size = self.variant
        # Only the visible cubes are embedded: with 90% hidden, that is a tenth of the embedding's work.
        x = Dense(size.width, dtype=self.dtype, name="patch_embed")(cubes)
        table = jnp.asarray(position_table(self.tokens, size.width), self.dtype)
        blocks = Blocks(size.depth, size.heads, size.mlp, self.dtype, self.implementation, self.remat, name="blocks")
        return blocks(x + table[indices])
