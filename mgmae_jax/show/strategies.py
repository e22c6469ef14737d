"""One clip masked by several strategies: a row for each, a column for each frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mgmae_jax.show.panels import HIDDEN_GREY, Row, masked_frames
from mgmae_jax.show.strip import pick_columns, row_strip

_LEFT_OUT = 96 / HIDDEN_GREY  # brightness of a cube that is not predicted, as a share of that of one that is


class ShownMask(NamedTuple):
    """A mask, by token.

    Args:
      visible: bool `[t, h, w]`.
      target: bool `[t, h, w]`, what is to be predicted; the rest of the hidden tokens is left out.
    """

    visible: np.ndarray
    target: np.ndarray


def strategies_strip(
    frames: np.ndarray,
    masks: Mapping[str, ShownMask],
    *,
    patch: int,
    tubelet: int,
    base: int | None,
    caption: str,
    max_columns: int = 8,
    cell: int = 88,
) -> np.ndarray:
    """Draws a clip, and below it the clip as each strategy shows it.

    Args:
      frames: uint8 `[T, H, W, 3]`.
      masks: by the strategy's name.
      patch: side of a token's cube in pixels.
      tubelet: its length in frames.
      base: the base frame, marked and among the columns; None if no strategy has one.
      caption: the text below the picture.
      max_columns: 1 or more; a longer clip shows evenly spaced frames.
      cell: width of a column in pixels.

    Returns:
      uint8 `[rows, columns, 3]` RGB.
    """
    rows = {"frames": Row("frames", "", frames)}
    for name, mask in masks.items():
        rows[f"strategy {name}"] = Row(name, _note(mask), _pictures(frames, mask, patch, tubelet))
    columns = pick_columns(len(frames), base or 0, max_columns)
    return row_strip(rows, columns, base, caption=caption, cell=cell)


def _pictures(frames: np.ndarray, mask: ShownMask, patch: int, tubelet: int) -> np.ndarray:
    """Hidden cubes grey, those that are not predicted dark grey."""
    pictures = masked_frames(frames, mask.visible, patch=patch, tubelet=tubelet)
    left_out = ~(mask.visible | mask.target)
    pixels = left_out.repeat(tubelet, axis=0).repeat(patch, axis=1).repeat(patch, axis=2)
    return np.where(pixels[..., None], np.round(pictures * _LEFT_OUT).astype(np.uint8), pictures)


def _note(mask: ShownMask) -> str:
    """How much is visible, and how much predicted if that is not the rest."""
    hidden_targets = mask.target & ~mask.visible
    note = f"{mask.visible.mean():.0%} visible"
    return note if (mask.visible | mask.target).all() else f"{note}, {hidden_targets.mean():.0%} target"
