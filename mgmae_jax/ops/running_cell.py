"""The running cell: of every 2x2 tokens some are hidden, and which ones goes round from tubelet to tubelet.

Qing et al., "MAR: Masked Autoencoders for Efficient Action Recognition", 2022, arXiv 2207.11660.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit

SIDE = 2
PLACES = SIDE**2
"""Places of a cell, which are counted row by row, and turns after which it is as before."""


def hidden_places(field: str, ratio: float, grid: TokenGrid) -> int:
    """How many of a cell's four places are hidden for a ratio of 0.25, 0.5 or 0.75.

    Args:
      field: what the ratio is called in the config, for errors.
      ratio: the share of hidden tokens.
      grid: how the clip is cut.

    Raises:
      ConfigError: the ratio is another, or the grid is not made of whole cells.
    """
    hidden = PLACES * ratio
    if hidden not in range(1, PLACES):
        raise ConfigError(field, ratio, f"0.25, 0.5 or 0.75 with running cells, which have {PLACES} places")
    for side in (grid.height, grid.width):
        if side // grid.patch % SIDE:
            want = f"a multiple of {SIDE * grid.patch}, so that running cells of {SIDE}x{SIDE} tokens fill it"
            raise ConfigError("clip.size", side, want)
    return int(hidden)


def cell_split(grid: TokenGrid, hidden: int, turns: Int[Array, "t"]) -> TokenSplit:
    """The tokens that are shown and those that are hidden; see `shown_tokens` for the arguments."""
    # The complement of a run of places is a run of places, too.
    return TokenSplit(shown_tokens(grid, hidden, turns), shown_tokens(grid, PLACES - hidden, turns - hidden))


def shown_tokens(grid: TokenGrid, hidden: int, turns: Int[Array, "t"]) -> Int[Array, "V"]:
    """The tokens that are not hidden, ascending: as many of every tubelet, and of every cell.

    Args:
      grid: how the clip is cut, into whole cells.
      hidden: how many places of a cell are hidden, from 1 to 3.
      turns: the turn of each tubelet's cells, any integer: place p is hidden if (p + turn) mod 4 < hidden.

    Returns:
      int32 indices into the clip.
    """
    place = SIDE * (np.arange(grid.rows) % SIDE)[:, None] + np.arange(grid.columns) % SIDE
    after = (place.reshape(-1) + np.arange(PLACES)[:, None]) % PLACES  # for each of the turns
    shown = np.stack([np.flatnonzero(row >= hidden) for row in after]).astype(np.int32)
    start = np.arange(grid.tubelets, dtype=np.int32)[:, None] * grid.per_tubelet
    return (jnp.asarray(shown)[turns % PLACES] + start).reshape(-1)
