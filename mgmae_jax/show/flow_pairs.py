"""Frame pairs and their true flow, one pair per row, to show what a flow network learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from mgmae_jax.show.flow_color import flow_to_rgb
from mgmae_jax.show.panels import FAINT, INK, PAPER, draw_cell, flow_scale, font, wrap

_GUTTER, _MARGIN, _HEAD, _FOOT = 4, 16, 22, 18
_HIDDEN = (214, 69, 35)
HEADS = ("frame 1", "frame 2", "flow", "frame 2 warped back")


class ShownPair(NamedTuple):
    """A pair to be drawn.

    Args:
      image1: uint8 `[H, W, 3]`.
      image2: uint8 `[H, W, 3]`.
      flow: float32 `[H, W, 2]`, from frame 1 to frame 2 in pixels.
      occluded: bool `[H, W]`, hidden in frame 2.
    """

    image1: np.ndarray
    image2: np.ndarray
    flow: np.ndarray
    occluded: np.ndarray


def pairs_picture(pairs: Sequence[ShownPair], caption: str, *, cell: int = 144) -> np.ndarray:
    """Draws pairs, two per line: both frames, the flow, and frame 2 warped back to frame 1, red where it is hidden.

    Args:
      pairs: at least one.
      caption: the text below the picture.
      cell: width and height of a picture in pixels.

    Returns:
      uint8 `[rows, columns, 3]` RGB.
    """
    across = min(2, len(pairs))
    block = len(HEADS) * (cell + _GUTTER)
    width = across * block + (across - 1) * _MARGIN + 2 * _MARGIN
    lines = wrap(caption, font(13), width - 2 * _MARGIN)
    rows = -(-len(pairs) // across)
    bottom = _MARGIN + _HEAD + rows * (cell + _FOOT + _GUTTER)
    picture = Image.new("RGB", (width, bottom + 8 + 19 * len(lines) + _MARGIN), PAPER)
    canvas = ImageDraw.Draw(picture)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, across)
        left = _MARGIN + column * (block + _MARGIN)
        top = _MARGIN + _HEAD + row * (cell + _FOOT + _GUTTER)
        scale = flow_scale(pair.flow)
        images = (pair.image1, pair.image2, flow_to_rgb(pair.flow, scale), warped_back(pair))
        for i, (head, image) in enumerate(zip(HEADS, images, strict=True)):
            x = left + i * (cell + _GUTTER)
            if row == 0:
                canvas.text((x + cell / 2, top - 8), head, fill=INK, font=font(12, bold=True), anchor="ms")
            draw_cell(picture, image, (x, top), (cell, cell), marked=False)
        note = f"full colour {scale:.1f} px; {pair.occluded.mean():.0%} hidden in frame 2"
        canvas.text((left + 2 * (cell + _GUTTER), top + cell + 14), note, fill=FAINT, font=font(11), anchor="ls")
    for i, line in enumerate(lines):
        canvas.text((_MARGIN, bottom + 22 + 19 * i), line, fill=INK, font=font(13), anchor="ls")
    return np.asarray(picture)


def warped_back(pair: ShownPair) -> np.ndarray:
    """Frame 2 sampled where the flow puts frame 1's points; red where they are hidden: uint8 `[H, W, 3]`."""
    height, width = pair.occluded.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    image = cv2.remap(pair.image2, x + pair.flow[..., 0], y + pair.flow[..., 1], cv2.INTER_LINEAR)
    return np.where(pair.occluded[..., None], np.array(_HIDDEN, np.uint8), image)
