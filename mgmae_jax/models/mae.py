"""The masked autoencoder: an encoder of the visible tokens, a smaller decoder of the hidden ones (section 3.1)."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from mgmae_jax.models.layers import NORM_EPS, Blocks, Dense
from mgmae_jax.models.positions import Positions, find_positions, grid_positions
from mgmae_jax.models.variants import Variant, variant_of
from mgmae_jax.models.vit import Encoder
from mgmae_jax.ops.attention import Implementation, find_implementation
from mgmae_jax.ops.placement import split_batch
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit
from mgmae_jax.runtime.config_checks import parse_dtype


class Decoder(nn.Module):
    """Predicts the target cubes from the encoded visible tokens.

    The visible tokens come first, then one mask token for each target, each with its own position.
    """

    width: int
    depth: int
    heads: int
    grid: TokenGrid
    dtype: DTypeLike
    implementation: Implementation
    remat: bool
    positions: Positions
    values: int
    eps: float = NORM_EPS
    last_eps: float = NORM_EPS
    trained_grid: TokenGrid | None = None

    @nn.compact
    def __call__(self, latent: Float[Array, "B V D"], split: TokenSplit) -> Float[Array, "B K C"]:
        """Returns the prediction for every target token, float32."""
        x = split_batch(Dense(self.width, use_bias=False, dtype=self.dtype, name="embed")(split_batch(latent)))
        # Standard deviation 0.02, truncated at one deviation.
        mask_init = nn.initializers.truncated_normal(0.02, lower=-1.0, upper=1.0)
        mask_token = self.param("mask_token", mask_init, (self.width,)).astype(self.dtype)
        table = jnp.asarray(grid_positions(self.grid, self.width, self.trained_grid, self.positions), self.dtype)
        hidden = mask_token.reshape(1, 1, -1) + table[split.target]
        x = jnp.concatenate([x + table[split.visible], hidden], axis=1)
        blocks = Blocks(
            self.depth,
            self.heads,
            4 * self.width,
            self.dtype,
            self.implementation,
            self.remat,
            eps=self.eps,
            last_eps=self.last_eps,
            name="blocks",
        )
        x = blocks(x, last=split.target.shape[1])
        return split_batch(Dense(self.values, dtype=self.dtype, name="head")(x)).astype(jnp.float32)


class MaskedAutoencoder(nn.Module):
    """VideoMAE's model, which MGMAE keeps; only the choice of the visible tokens differs.

    Args:
      variant: the sizes of encoder and decoder.
      grid: how the clip is cut.
      decoder_depth: number of the decoder's blocks.
      dtype: the dtype of the activations; parameters, statistics, softmax and the prediction are float32.
      implementation: the implementation of attention; see `ops.attention`.
      remat: recompute blocks in the backward pass instead of keeping their activations.
      positions: the position table of encoder and decoder.
      values: how many values are predicted for a token; None for those of its cube.
    """

    variant: Variant
    grid: TokenGrid
    decoder_depth: int = 4
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "auto"
    remat: bool = False
    positions: Positions = "flat"
    values: int | None = None

    def setup(self) -> None:
        """Names the two halves."""
        size, options = self.variant, (self.dtype, self.implementation, self.remat)
        self.encoder = Encoder(size, self.grid, *options, positions=self.positions)
        self.decoder = Decoder(
            size.decoder_width,
            self.decoder_depth,
            size.decoder_heads,
            self.grid,
            *options,
            self.positions,
            self.grid.cube_values if self.values is None else self.values,
            size.eps,
            size.last_eps,
        )

    def __call__(self, visible: Float[Array, "B V C"], split: TokenSplit) -> Float[Array, "B K D"]:
        """Predicts the values of the target tokens.

        Args:
          visible: the cubes at `split.visible`, pixels normalised by ImageNet's mean and standard deviation.
          split: int32 indices [B, V] and [B, K]; there may be fewer targets than hidden tokens.

        Returns:
          For every target token its `values`, float32: those of a cube in the order (frame, row, column, channel).
        """
        return self.decoder(self.encoder(visible, split.visible), split)


def build_autoencoder(config: ConfigDict, grid: TokenGrid, values: int | None = None) -> MaskedAutoencoder:
    """The masked autoencoder that config.model of a pre-training config describes.

    Args:
      config: the resolved config.
      grid: how clips are cut.
      values: see `MaskedAutoencoder`.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    return MaskedAutoencoder(
        variant=variant_of(config.model),
        grid=grid,
        decoder_depth=config.model.decoder_depth,
        dtype=parse_dtype("model.dtype", config.model.dtype),
        implementation=find_implementation(config.model.attention),
        remat=config.model.remat,
        positions=find_positions(config),
        values=values,
    )
