"""The encoder of a pre-trained autoencoder on whole clips, for its features."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from mgmae_jax.models.classifier import input_cubes
from mgmae_jax.models.positions import Positions
from mgmae_jax.models.variants import Variant
from mgmae_jax.models.vit import Encoder
from mgmae_jax.ops.attention import Implementation
from mgmae_jax.ops.grid import TokenGrid


class PretrainedEncoder(nn.Module):
    """Shows the encoder all cubes. Its parameters under `encoder` are those of the masked autoencoder.

    Args:
      variant: the size.
      grid: how clips are cut.
      dtype: of the activations.
      implementation: of attention, "xla" or "cudnn".
      positions: the position table.
    """

    variant: Variant
    grid: TokenGrid
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "xla"
    positions: Positions = "flat"

    def setup(self) -> None:
        """Names the encoder as the autoencoder does."""
        self.encoder = Encoder(self.variant, self.grid, self.dtype, self.implementation, positions=self.positions)

    def tokens(self, clips: UInt8[Array, "B T H W 3"]) -> Float[Array, "B N D"]:
        """One normalised vector for every cube, by (tubelet, row, column)."""
        return self.encoder(input_cubes(clips, self.grid))

    def features(self, clips: UInt8[Array, "B T H W 3"]) -> Float[Array, "B D"]:
        """The mean of the tokens, float32."""
        return self.tokens(clips).astype(jnp.float32).mean(axis=1)

    def __call__(self, clips: UInt8[Array, "B T H W 3"]) -> Float[Array, "B D"]:
        """As `features`."""
        return self.features(clips)
