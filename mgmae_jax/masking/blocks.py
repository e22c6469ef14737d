"""V-JEPA's multi-block masks (Bardes et al., TMLR 2024, arXiv 2404.08471): rectangles hidden through the whole clip.

`mask.blocks` rectangles of one size, each anywhere in the frame, are hidden in every frame, and only what none of them
covers may be seen. Its short-range masks are 8 blocks of 0.15 of the frame, the default here; its long-range masks are
2 of 0.7. It trains on one of each for every clip, and predicts features, not pixels.

Its program makes the masks of a batch equal in number by dropping the last of the seen and of the predicted tokens, so
that the numbers differ from batch to batch. Here `mask.ratio` says how many tokens are visible, as for every strategy:
of the places that the fewest blocks cover, random ones are shown, the same in every tubelet, and all other tokens are
predicted. So where the blocks leave more places than are shown, some tokens outside of them are predicted, too; where
they leave fewer, the least covered ones of their places are shown.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions
from mgmae_jax.masking.select import highest
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.rng import named_key


def check_blocks(grid: TokenGrid, options: MaskOptions) -> None:
    """Checks the number, size and shape of the blocks.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    if options.blocks < 1:
        raise ConfigError("mask.blocks", options.blocks, "1 or more")
    if not 0 < options.block_scale < 1:
        raise ConfigError("mask.block_scale", options.block_scale, "more than 0 and less than 1, the frame")
    if not 1 <= options.block_aspect < math.inf:
        raise ConfigError("mask.block_aspect", options.block_aspect, "1 or more")


def block_size(key: Key[Array, ""], grid: TokenGrid, options: MaskOptions) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Rows and columns of a clip's blocks: the given share of the frame, and a random height over width.

    The latter is between `mask.block_aspect` and its inverse, evenly in its logarithm (V-JEPA's program: evenly between
    0.75 and 1.5). Sides are rounded to tokens, at least 1 and at most those of the frame.
    """
    area = int(options.block_scale * grid.per_tubelet + 1e-6)
    limit = jnp.log(jnp.float32(options.block_aspect))
    root = jnp.exp(jax.random.uniform(key, (), jnp.float32, -limit, limit) / 2)
    side = jnp.sqrt(jnp.float32(area))

    def rounded(length: Float[Array, ""], most: int) -> Int[Array, ""]:
        return jnp.clip(jnp.round(length), 1, most).astype(jnp.int32)

    return rounded(side * root, grid.rows), rounded(side / root, grid.columns)


def block_cover(key: Key[Array, ""], grid: TokenGrid, options: MaskOptions) -> Int[Array, "h w"]:
    """How many blocks cover each place of the frame."""
    key_size, key_place = jax.random.split(key)
    rows, columns = block_size(key_size, grid, options)
    key_top, key_left = jax.random.split(key_place)
    top = jax.random.randint(key_top, (options.blocks, 1), 0, grid.rows - rows + 1)
    left = jax.random.randint(key_left, (options.blocks, 1), 0, grid.columns - columns + 1)
    row = jnp.arange(grid.rows, dtype=jnp.int32)[None]
    column = jnp.arange(grid.columns, dtype=jnp.int32)[None]
    in_rows = (row >= top) & (row < top + rows)
    in_columns = (column >= left) & (column < left + columns)
    return (in_rows[:, :, None] & in_columns[:, None, :]).sum(axis=0, dtype=jnp.int32)


def multi_block(ask: MaskInput) -> Int[Array, "V"]:
    """Random places that no block covers, the same in every tubelet."""
    key_blocks, key_places = jax.random.split(named_key(ask.key, "select", DRAWS))
    cover = block_cover(key_blocks, ask.grid, ask.options)
    places = highest(key_places, -cover.reshape(-1).astype(jnp.float32), ask.per_tubelet)
    start = jnp.arange(ask.grid.tubelets, dtype=jnp.int32)[:, None] * ask.grid.per_tubelet
    return (start + places[None]).reshape(-1)
