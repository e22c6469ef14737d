"""Masking strategies, by name: motion guided (the paper), tube, random, frame. A new one is a function and a line.

A strategy is a pure function from a `MaskInput`, which is all that it may look at, to the visible tokens of one clip;
`jax.vmap` makes the batch. Its line in `STRATEGIES`, at the end, gives the rest.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking import base_map
from mgmae_jax.masking.adamae import adamae, adamae_loss, init_adamae
from mgmae_jax.masking.blocks import check_blocks, multi_block
from mgmae_jax.masking.energy import (
    check_difference,
    check_energy,
    difference_picture,
    frame_difference,
    magnitude_picture,
    motion_energy,
)
from mgmae_jax.masking.everest import check_everest, everest, everest_target
from mgmae_jax.masking.mask_input import DecoderMask, MaskInput, MaskOptions, Strategy
from mgmae_jax.masking.motion import check_motion, motion, motion_picture
from mgmae_jax.masking.moving_blocks import blocks_picture, check_block, moving_blocks
from mgmae_jax.masking.running_cell import check_decoder_cell, check_running_cell, decoded, running_cell
from mgmae_jax.masking.select import split_tokens, visible_per_tubelet
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit


def find_strategy(grid: TokenGrid, options: MaskOptions) -> Strategy:
    """The strategy that the options name, which can work with them.

    Raises:
      ConfigError: there is none of this name, or options do not go together.
    """
    if options.strategy not in STRATEGIES:
        raise ConfigError("mask.strategy", options.strategy, "one of " + ", ".join(STRATEGIES))
    strategy = STRATEGIES[options.strategy]
    visible_per_tubelet(options.ratio, grid)
    if strategy.needs_flow:
        check_difference(grid, options)
    if strategy.check is not None:
        strategy.check(grid, options)
    if (decoder := DECODERS[options.decoder]) is not None:
        if strategy.target is not None or strategy.loss is not None:
            want = f"all with mask.strategy={options.strategy}, which has its own rule for what is predicted"
            raise ConfigError("mask.decoder", options.decoder, want)
        decoder.check(grid, options)
    return strategy


def draw_mask(ask: MaskInput) -> TokenSplit:
    """Splits a clip's tokens into visible and target ones by the strategy that the options name.

    The counts do not depend on traced values. With a mask of the decoder's, targets may be visible (see
    `hidden_targets`).

    Raises:
      ConfigError: the options cannot work.
    """
    strategy = find_strategy(ask.grid, ask.options)
    visible = strategy.visible(ask)
    split = split_tokens(visible, ask.grid)
    if (decoder := DECODERS[ask.options.decoder]) is not None:
        return split._replace(target=decoder.decoded(ask))
    if strategy.target is None:
        return split
    return split._replace(target=jnp.sort(strategy.target(ask, visible)))


def hidden_targets(split: TokenSplit, grid: TokenGrid, options: MaskOptions) -> Bool[Array, "K"] | None:
    """Which targets of a clip are hidden from the encoder, and so in the loss; None where all of them always are."""
    if DECODERS[options.decoder] is None:
        return None
    return jnp.ones(grid.tokens, bool).at[split.visible].set(False)[split.target]


def tube(ask: MaskInput) -> Int[Array, "V"]:
    """The same random tokens visible in every tubelet (VideoMAE)."""
    tokens = base_map.random_tokens(ask.key, ask.grid, ask.per_tubelet)
    start = jnp.arange(ask.grid.tubelets, dtype=jnp.int32)[:, None] * ask.grid.per_tubelet
    return (start + tokens[None]).reshape(-1)


def random(ask: MaskInput) -> Int[Array, "V"]:
    """Random tokens anywhere in the clip (MAE-ST)."""
    return jax.random.permutation(ask.key, jnp.arange(ask.grid.tokens, dtype=jnp.int32))[: ask.count]


def frame(ask: MaskInput) -> Int[Array, "V"]:
    """Whole random tubelets visible, and a random part of one more."""
    key_tubelets, key_tokens = jax.random.split(ask.key)
    tubelets = jax.random.permutation(key_tubelets, jnp.arange(ask.grid.tubelets, dtype=jnp.int32))
    tokens = jax.random.permutation(key_tokens, jnp.arange(ask.grid.per_tubelet, dtype=jnp.int32))
    return (tubelets[:, None] * ask.grid.per_tubelet + tokens[None]).reshape(-1)[: ask.count]


STRATEGIES = {
    "motion": Strategy(motion, needs_flow=True, reads_occlusion=True, volume=motion_picture, check=check_motion),
    "tube": Strategy(tube),
    "random": Strategy(random),
    "frame": Strategy(frame),
    "running_cell": Strategy(running_cell, check=check_running_cell),
    "motion_energy": Strategy(motion_energy, needs_flow=True, volume=magnitude_picture, check=check_energy),
    "frame_difference": Strategy(frame_difference, volume=difference_picture, check=check_difference),
    "everest": Strategy(everest, everest_target, needs_tokens=True, check=check_everest),
    "adamae": Strategy(adamae, needs_tokens=True, init=init_adamae, loss=adamae_loss),
    "multi_block": Strategy(multi_block, check=check_blocks),
    "moving_blocks": Strategy(moving_blocks, needs_flow=True, volume=blocks_picture, check=check_block),
}

DECODERS: dict[str, DecoderMask | None] = {
    "all": None,
    "running_cell": DecoderMask(decoded, check_decoder_cell),
}
"""What the decoder predicts, by name (`mask.decoder`); None for the strategy's targets."""
