"""Position tables for clips of any grid."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.models.layers import position_table
from mgmae_jax.ops.tokens import TokenGrid

Positions = Literal["flat", "separable"]
"""How a token's position is encoded: "flat", one table over the flattened index, as in the published models;
"separable", a third of the channels each for time, row and column, which small models learn from sooner
(docs/RESULTS.md)."""


def grid_positions(
    grid: TokenGrid, width: int, trained_grid: TokenGrid | None = None, positions: Positions = "flat"
) -> Float[np.ndarray, "N D"]:
    """The position of every token of a clip.

    The flat table counts tokens through a clip, so it does not fit a clip that is cut differently: token 20 is
    elsewhere there. A model trained on one grid sees another one through the trained table, interpolated linearly in
    time, down and across. (A new table for the other grid would move every token but the first.)

    Args:
      grid: the grid of the clips to encode.
      width: number of channels.
      trained_grid: the grid of the clips that the model was trained on; by default the same.
      positions: which table.

    Returns:
      float32, tokens by (tubelet, row, column). If the token counts are the same, it is the trained table itself.
    """
    sides = (grid.tubelets, grid.rows, grid.columns)
    trained = sides if trained_grid is None else (trained_grid.tubelets, trained_grid.rows, trained_grid.columns)
    table = position_table(int(np.prod(trained)), width) if positions == "flat" else _separable(trained, width)
    if sides == trained:
        return table
    volume = table.reshape(*trained, width)
    for axis, (old, new) in enumerate(zip(trained, sides, strict=True)):
        volume = np.moveaxis(np.tensordot(_linear_weights(old, new), volume, axes=(1, axis)), 0, axis)
    return volume.reshape(-1, width).astype(np.float32)


def _separable(sides: tuple[int, int, int], width: int) -> Float[np.ndarray, "N D"]:
    """Sine-cosine tables of time, row and column side by side; the last has the channels that are left over."""
    third = width // 6 * 2
    tables = [position_table(side, part) for side, part in zip(sides, (third, third, width - 2 * third), strict=True)]
    places = np.indices(sides).reshape(3, -1)
    return np.concatenate([table[place] for table, place in zip(tables, places, strict=True)], axis=1)


def _linear_weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Weights of linear interpolation between the centres of equal cells; constant beyond the outermost ones."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    return np.stack([np.interp(centres, np.arange(old), cell) for cell in np.eye(old)], axis=1)


def find_positions(config: ConfigDict) -> Positions:
    """The position table of a config's model; flat for old runs, whose configs do not say.

    Raises:
      ConfigError: there is no table of that name.
    """
    positions: Positions = config.model.get("positions", "flat")
    if positions not in get_args(Positions):
        raise ConfigError("model.positions", positions, "one of " + ", ".join(get_args(Positions)))
    return positions
