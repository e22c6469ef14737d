"""Running cells as masks: of the encoder, and of the decoder, which then predicts a part of the cubes only.

The cell is MAR's (Qing et al., 2022, arXiv 2207.11660). Its use for the decoder is the dual masking of VideoMAE V2
(Wang et al., "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking", CVPR 2023, arXiv 2303.16727, section
3.2). All cells of a clip turn together, by one place from each tubelet to the next. With a phase p, one of four that
are equally probable, the places (0 to 3, row by row) that tubelet t hides are those at which (place + p + 1 + t) mod 4
is less than 4 times the ratio, as in the official program of VideoMAE V2, which draws p for every clip.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.ops.running_cell import PLACES, hidden_places, shown_tokens
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.rng import named_key


def check_running_cell(grid: TokenGrid, options: MaskOptions) -> None:
    """Checks that `mask.ratio` and the grid are made of whole cells.

    Raises:
      ConfigError: they are not.
    """
    hidden_places("mask.ratio", options.ratio, grid)


def running_cell(ask: MaskInput) -> Int[Array, "V"]:
    """The tokens that running cells of `mask.ratio` show; the phase is drawn from the mask's key itself."""
    return _cells(ask.key, ask.grid, hidden_places("mask.ratio", ask.options.ratio, ask.grid))


def check_decoder_cell(grid: TokenGrid, options: MaskOptions) -> None:
    """Checks that `mask.decoder_ratio` and the grid are made of whole cells, and leave something to learn.

    Raises:
      ConfigError: they are not, or a clip could be without a hidden token that is decoded.
    """
    hidden = hidden_places("mask.decoder_ratio", options.decoder_ratio, grid)
    # More are decoded than are visible, so that some of them are hidden from the encoder, whatever the two masks.
    if grid.per_tubelet * (PLACES - hidden) // PLACES <= visible_per_tubelet(options.ratio, grid):
        want = f"less than mask.ratio={options.ratio:g}, so that every clip has hidden tokens that are decoded"
        raise ConfigError("mask.decoder_ratio", options.decoder_ratio, want)


def decoded(ask: MaskInput) -> Int[Array, "K"]:
    """The tokens that running cells of `mask.decoder_ratio` leave to decode, whether the encoder sees them or not.

    The phase comes from the key's draw "decoder", so that the encoder's mask does not change with the decoder's.
    """
    hidden = hidden_places("mask.decoder_ratio", ask.options.decoder_ratio, ask.grid)
    return _cells(named_key(ask.key, "decoder", DRAWS), ask.grid, hidden)


def _cells(key: Key[Array, ""], grid: TokenGrid, hidden: int) -> Int[Array, "V"]:
    phase = jax.random.randint(key, (), 0, PLACES, jnp.int32)
    return shown_tokens(grid, hidden, phase + 1 + jnp.arange(grid.tubelets, dtype=jnp.int32))
