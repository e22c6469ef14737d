"""The video classifier that fine-tuning trains: the encoder, the mean of its tokens, a norm and a linear head."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.models.layers import LayerNorm, drop_path_scales
from mgmae_jax.models.positions import Positions, find_positions
from mgmae_jax.models.variants import Variant, variant_of
from mgmae_jax.models.vit import Encoder
from mgmae_jax.ops.attention import Implementation, find_implementation
from mgmae_jax.ops.tokens import TokenGrid, normalise_pixels, patchify, unit_range
from mgmae_jax.runtime.config_checks import check_positive, check_shares, parse_dtype

Clips = UInt8[Array, "B T H W 3"] | Float[Array, "B T H W 3"]
"""Bytes, or float32 in [0, 1] if clips were mixed."""

# PyTorch's truncated normal, which the official program calls, truncates at +-2: a hundred deviations away.
_KERNEL_INIT = nn.initializers.normal(0.02)


def input_cubes(clips: Clips, grid: TokenGrid) -> Float[Array, "B N C"]:
    """The network's input: all cubes of the clips, normalised by ImageNet's mean and standard deviation."""
    cubes = patchify(clips, grid)
    return normalise_pixels(unit_range(cubes) if cubes.dtype == jnp.uint8 else cubes)


class Classifier(nn.Module):
    """VideoMAE's classifier. Its parameters under `encoder` are named as those of the masked autoencoder's encoder.

    Args:
      variant: the size of the encoder.
      grid: how clips are cut.
      classes: number of classes.
      drop_path: probability, below 1, that a branch of the last block is dropped in training.
      head_dropout: probability, below 1, that a feature is dropped before the head in training.
      init_scale: the head's initial parameters are multiplied by this.
      dtype: the dtype of the encoder's activations; parameters, pooling, norm and head are float32.
      implementation: the implementation of attention; see `ops.attention`.
      remat: recompute blocks in the backward pass.
      trained_grid: how the clips of the pre-training were cut, if differently; see `positions.grid_positions`.
      positions: the position table of the pre-training.
    """

    variant: Variant
    grid: TokenGrid
    classes: int
    drop_path: float = 0.0
    head_dropout: float = 0.0
    init_scale: float = 0.001
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "auto"
    remat: bool = False
    trained_grid: TokenGrid | None = None
    positions: Positions = "flat"

    def setup(self) -> None:
        """Names the parts."""
        self.encoder = Encoder(
            self.variant,
            self.grid,
            self.dtype,
            self.implementation,
            self.remat,
            self.trained_grid,
            kernel_init=_KERNEL_INIT,
            norm=False,  # the norm comes after the mean
            positions=self.positions,
        )
        self.fc_norm = LayerNorm(epsilon=self.variant.last_eps)
        # The head's bias starts at 0, which `init_scale` does not change.
        self.head = nn.Dense(self.classes, kernel_init=nn.initializers.normal(0.02 * self.init_scale))

    def tokens(self, clips: Clips, keys: Key[Array, "B"] | None = None) -> Float[Array, "B N D"]:
        """The encoder's output for every cube, by (tubelet, row, column); `keys` as for the call."""
        scales = None
        if keys is not None and self.drop_path:
            scales = drop_path_scales(keys, self.drop_path, self.variant.depth)
        return self.encoder(input_cubes(clips, self.grid), scales=scales)

    def features(self, clips: Clips, keys: Key[Array, "B"] | None = None) -> Float[Array, "B D"]:
        """What the head sees, float32: the mean of the tokens, normalised; `keys` as for the call."""
        features: Array = self.fc_norm(self.tokens(clips, keys).astype(jnp.float32).mean(axis=1))
        return features

    def __call__(
        self,
        clips: Clips,
        drop_path_keys: Key[Array, "B"] | None = None,
        dropout_keys: Key[Array, "B"] | None = None,
    ) -> Float[Array, "B classes"]:
        """Scores clips.

        Args:
          clips: the clips, uint8 or float32 in [0, 1].
          drop_path_keys: in training, one for each clip; without them no branch is dropped.
          dropout_keys: one for each clip, for the head's dropout.

        Returns:
          Logits, float32.
        """
        features = self.features(clips, drop_path_keys)
        if dropout_keys is not None and self.head_dropout:
            keep = 1 - self.head_dropout
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, features.shape[1:]))(dropout_keys)
            features = jnp.where(kept, features / keep, 0.0)
        return self.head(features)


class PretrainedEncoder(nn.Module):
    """Shows the encoder all cubes. Its parameters under `encoder` are those of the masked autoencoder.

    Args:
      variant: the encoder's size.
      grid: how clips are cut.
      dtype: the dtype of the activations.
      implementation: the implementation of attention; see `ops.attention`.
      positions: the position table.
    """

    variant: Variant
    grid: TokenGrid
    dtype: DTypeLike = jnp.float32
    implementation: Implementation = "auto"
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


def build_classifier(config: ConfigDict) -> Classifier:
    """The classifier that config.clip and config.model of a fine-tuning config describe.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    clip, model = config.clip, config.model
    check_positive(config, "model.classes", "model.init_scale")
    check_shares(config, "model.drop_path", "model.head_dropout")
    trained_frames, trained_size = model.trained_frames or clip.frames, model.trained_size or clip.size
    return Classifier(
        variant=variant_of(model),
        grid=TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch),
        classes=model.classes,
        drop_path=model.drop_path,
        head_dropout=model.head_dropout,
        init_scale=model.init_scale,
        dtype=parse_dtype("model.dtype", model.dtype),
        implementation=find_implementation(model.attention),
        remat=model.remat,
        trained_grid=TokenGrid(trained_frames, trained_size, trained_size, model.tubelet, model.patch),
        positions=find_positions(config),
    )


def build_pretrained_encoder(config: ConfigDict) -> PretrainedEncoder:
    """The encoder, for whole clips, that a pre-training config describes.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    clip, model = config.clip, config.model
    grid = TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch)
    dtype, attention = parse_dtype("model.dtype", model.dtype), find_implementation(model.attention)
    return PretrainedEncoder(variant_of(model), grid, dtype, attention, find_positions(config))
