"""The video transformer that encodes cubes."""

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mgmae_jax.models.layers import Blocks
from mgmae_jax.models.positions import Positions, grid_positions
from mgmae_jax.models.variants import Variant
from mgmae_jax.ops.attention import Implementation
from mgmae_jax.ops.placement import split_batch
from mgmae_jax.ops.tokens import TokenGrid


class Encoder(nn.Module):
    """A vision transformer over the visible cubes of a clip, without a class token.

    Args:
      variant: the encoder's size.
      grid: how the clip is cut.
      dtype: the dtype of the activations; parameters are float32.
      implementation: the implementation of attention.
      remat: recompute blocks in the backward pass.
      trained_grid: how the clips of the pre-training were cut, if differently: positions are interpolated from it.
      kernel_init: draws the weight matrices.
      norm: whether there is a norm after the blocks.
      positions: the position table.
    """

    variant: Variant
    grid: TokenGrid
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "auto"
    remat: bool = False
    trained_grid: TokenGrid | None = None
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    norm: bool = True
    positions: Positions = "flat"

    @nn.compact
    def __call__(
        self,
        cubes: Float[Array, "B V C"],
        indices: Int[Array, "B V"] | None = None,
        scales: Float[Array, "depth 2 B"] | None = None,
    ) -> Float[Array, "B V D"]:
        """Encodes the cubes at `indices` of their clips.

        Args:
          cubes: pixels normalised by ImageNet's mean and standard deviation, values in the order (frame, row, column,
            channel).
          indices: each cube's place in the clip; by default all cubes are there, in order.
          scales: the scales of the blocks' branches, from `layers.drop_path_scales`.

        Returns:
          One vector per cube, normalised if there is a norm.
        """
        size = self.variant
        # Only the visible cubes are embedded: with 90% hidden, that is a tenth of the embedding's work.
        embed = nn.Dense(size.width, dtype=self.dtype, kernel_init=self.kernel_init, name="patch_embed")
        table = jnp.asarray(grid_positions(self.grid, size.width, self.trained_grid, self.positions), self.dtype)
        x = split_batch(embed(split_batch(cubes))) + (table[None] if indices is None else table[indices])
        blocks = Blocks(
            size.depth,
            size.heads,
            size.mlp,
            self.dtype,
            self.implementation,
            self.remat,
            self.kernel_init,
            self.norm,
            size.eps,
            size.eps,
            name="blocks",
        )
        return blocks(x, scales=scales)
