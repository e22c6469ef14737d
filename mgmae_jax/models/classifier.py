"""The video classifier that fine-tuning trains: the encoder, the mean of its tokens, a norm and a linear head.

As an option it works on a part of the tokens, as MAR does (Qing et al., "MAR: Masked Autoencoders for Efficient Action
Recognition", 2022, arXiv 2207.11660): running cells hide tokens from the encoder in training and at test, blocks of
their own bridge encoder and head, and in training a decoder also predicts the hidden cubes.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.models.layers import Blocks, Dense, LayerNorm, drop_path_scales
from mgmae_jax.models.mae import Decoder
from mgmae_jax.models.positions import Positions, find_positions
from mgmae_jax.models.variants import Variant, variant_of
from mgmae_jax.models.vit import Encoder
from mgmae_jax.ops.attention import Implementation, find_implementation
from mgmae_jax.ops.running_cell import PLACES, cell_split, hidden_places
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, normalise_pixels, patchify, take_tokens, unit_range
from mgmae_jax.runtime.config_checks import check_positive, check_shares, parse_dtype

Clips = UInt8[Array, "B T H W 3"] | Float[Array, "B T H W 3"]
"""Bytes, or float32 in [0, 1] if clips were mixed."""

# PyTorch's truncated normal, which the official program calls, truncates at +-2: a hundred deviations away.
_KERNEL_INIT = nn.initializers.normal(0.02)


def input_cubes(clips: Clips, grid: TokenGrid) -> Float[Array, "B N C"]:
    """The network's input: all cubes of the clips, normalised by ImageNet's mean and standard deviation."""
    cubes = patchify(clips, grid)
    return normalise_pixels(unit_range(cubes) if cubes.dtype == jnp.uint8 else cubes)


@dataclasses.dataclass(frozen=True)
class Bridge:
    """The blocks between encoder and head: MAR's bridging classifier.

    A linear layer without bias leads into them. Where they are, the encoder ends in the norm of the pre-training.

    Args:
      depth: the number of blocks, 2 in MAR.
      width: their width, 512 in MAR.
      heads: their heads, 4 in MAR.
    """

    depth: int
    width: int = 512
    heads: int = 4


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
      hidden: how many of the four places of a running cell are hidden from the encoder; 0 shows it all tokens.
      bridge: the blocks between encoder and head; None for none.
      decoder_depth: the number of blocks of the decoder, which predicts hidden cubes in training; 0 for none. It is the
        masked autoencoder's, under the same name.
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
    hidden: int = 0
    bridge: Bridge | None = None
    decoder_depth: int = 0

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
            norm=self.bridge is not None,  # without a bridge the norm comes after the mean
            positions=self.positions,
        )
        self.fc_norm = LayerNorm(epsilon=self.variant.last_eps)
        # The head's bias starts at 0, which `init_scale` does not change.
        self.head = nn.Dense(self.classes, kernel_init=nn.initializers.normal(0.02 * self.init_scale))
        options = (self.dtype, self.implementation, self.remat)
        if (bridge := self.bridge) is not None:
            self.bridge_embed = Dense(bridge.width, use_bias=False, dtype=self.dtype)
            self.bridge_blocks = Blocks(bridge.depth, bridge.heads, 4 * bridge.width, *options, norm=False)
        if self.decoder_depth:
            self.decoder = Decoder(
                self.variant.decoder_width,
                self.decoder_depth,
                self.variant.decoder_heads,
                self.grid,
                *options,
                self.positions,
                self.grid.cube_values,
                self.variant.eps,
                self.variant.last_eps,
                self.trained_grid,
            )

    def tokens(
        self, clips: Clips, keys: Key[Array, "B"] | None = None, split: TokenSplit | None = None
    ) -> Float[Array, "B V D"]:
        """The encoder's output for every cube that it sees, by (tubelet, row, column).

        Args:
          clips: as for the call.
          keys: the call's `drop_path_keys`.
          split: which cubes it sees, from `split`; None for all.
        """
        scales, cubes = None, input_cubes(clips, self.grid)
        if keys is not None and self.drop_path:
            scales = drop_path_scales(keys, self.drop_path, self.variant.depth)
        if split is None:
            return self.encoder(cubes, scales=scales)
        return self.encoder(take_tokens(cubes, split.visible), split.visible, scales)

    def features(self, clips: Clips, keys: Key[Array, "B"] | None = None) -> Float[Array, "B F"]:
        """What the head sees, float32: the mean of the tokens, normalised; `keys` is the call's `drop_path_keys`."""
        return self._pool(self.tokens(clips, keys, self.split(len(clips))))

    def split(self, clips: int, keys: Key[Array, "B"] | None = None) -> TokenSplit | None:
        """Which tokens of each of so many clips the encoder sees; None if all.

        As MAR's program does with the settings of its published runs. A cell hides a run of places (0 to 3, row by
        row), which moves by one from each tubelet to the next; all cells of a clip are alike. At test the run begins
        at place 0 in the first tubelet. In training it begins at one of the four, and then the tubelets are shuffled.

        Args:
          clips: how many.
          keys: in training, one for each clip.
        """
        if not self.hidden:
            return None
        if keys is None:
            turns = jnp.zeros((clips, 1), jnp.int32) - jnp.arange(self.grid.tubelets, dtype=jnp.int32)[None]
        else:
            turns = jax.vmap(self._turns)(keys)
        return jax.vmap(lambda turns: cell_split(self.grid, self.hidden, turns))(turns)

    def _turns(self, key: Key[Array, ""]) -> Int[Array, "t"]:
        key_phase, key_order = jax.random.split(key)
        order = jax.random.permutation(key_order, jnp.arange(self.grid.tubelets, dtype=jnp.int32))
        return -(order + jax.random.randint(key_phase, (), 0, PLACES, jnp.int32))

    def _pool(self, tokens: Float[Array, "B V D"]) -> Float[Array, "B F"]:
        if self.bridge is not None:
            tokens = self.bridge_blocks(self.bridge_embed(tokens))
        features: Array = self.fc_norm(tokens.astype(jnp.float32).mean(axis=1))
        return features

    def __call__(
        self,
        clips: Clips,
        drop_path_keys: Key[Array, "B"] | None = None,
        dropout_keys: Key[Array, "B"] | None = None,
        mask_keys: Key[Array, "B"] | None = None,
    ) -> Float[Array, "B classes"]:
        """Scores clips.

        Args:
          clips: the clips, uint8 or float32 in [0, 1].
          drop_path_keys: in training, one for each clip; without them no branch is dropped.
          dropout_keys: one for each clip, for the head's dropout.
          mask_keys: one for each clip, for its mask; without them it is that of tests.

        Returns:
          Logits, float32.
        """
        tokens = self.tokens(clips, drop_path_keys, self.split(len(clips), mask_keys))
        return self._classify(self._pool(tokens), dropout_keys)

    def classify_and_predict(
        self,
        clips: Clips,
        drop_path_keys: Key[Array, "B"] | None,
        dropout_keys: Key[Array, "B"] | None,
        mask_keys: Key[Array, "B"],
    ) -> tuple[Float[Array, "B classes"], Float[Array, "B K C"], Int[Array, "B K"]]:
        """Scores clips, and predicts their hidden cubes; the arguments are those of the call.

        Returns:
          Logits; the prediction of every hidden token, float32; which tokens these are.
        """
        split = self.split(len(clips), mask_keys)
        if split is None or not self.decoder_depth:
            raise ValueError("only a classifier with hidden tokens and a decoder predicts cubes")
        tokens = self.tokens(clips, drop_path_keys, split)
        return self._classify(self._pool(tokens), dropout_keys), self.decoder(tokens, split), split.target

    def _classify(
        self, features: Float[Array, "B F"], dropout_keys: Key[Array, "B"] | None
    ) -> Float[Array, "B classes"]:
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
    grid = TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch)
    hidden, bridge, decoder_depth = _mar_parts(config, grid)
    return Classifier(
        variant=variant_of(model),
        grid=grid,
        classes=model.classes,
        drop_path=model.drop_path,
        head_dropout=model.head_dropout,
        init_scale=model.init_scale,
        dtype=parse_dtype("model.dtype", model.dtype),
        implementation=find_implementation(model.attention),
        remat=model.remat,
        trained_grid=TokenGrid(trained_frames, trained_size, trained_size, model.tubelet, model.patch),
        positions=find_positions(config),
        hidden=hidden,
        bridge=bridge,
        decoder_depth=decoder_depth,
    )


def _mar_parts(config: ConfigDict, grid: TokenGrid) -> tuple[int, Bridge | None, int]:
    """`hidden`, `bridge` and `decoder_depth` of a classifier; the config of an older run has no fields for them."""
    if "mask" not in config:
        return 0, None, 0
    mask, model = config.mask, config.model
    hidden = hidden_places("mask.ratio", mask.ratio, grid) if mask.ratio else 0
    if model.bridge_depth < 0:
        raise ConfigError("model.bridge_depth", model.bridge_depth, "0 or more")
    bridge = None
    if model.bridge_depth:
        if model.bridge_heads < 1 or model.bridge_width < 1 or model.bridge_width % model.bridge_heads:
            want = f"a divisor of model.bridge_width={model.bridge_width}"
            raise ConfigError("model.bridge_heads", model.bridge_heads, want)
        bridge = Bridge(model.bridge_depth, model.bridge_width, model.bridge_heads)
    if not 0 <= mask.loss_weight < math.inf:
        raise ConfigError("mask.loss_weight", mask.loss_weight, "0 or a positive number")
    if not mask.loss_weight:
        return hidden, bridge, 0
    if not hidden or bridge is None:
        raise ConfigError("mask.loss_weight", mask.loss_weight, "0 without mask.ratio and model.bridge_depth above 0")
    if model.decoder_depth < 1:
        raise ConfigError("model.decoder_depth", model.decoder_depth, "1 or more")
    return hidden, bridge, model.decoder_depth


def build_pretrained_encoder(config: ConfigDict) -> PretrainedEncoder:
    """The encoder, for whole clips, that a pre-training config describes.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    clip, model = config.clip, config.model
    grid = TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch)
    dtype, attention = parse_dtype("model.dtype", model.dtype), find_implementation(model.attention)
    return PretrainedEncoder(variant_of(model), grid, dtype, attention, find_positions(config))
