"""A picture of many videos: a frame of each, with what it is called below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mgmae_jax.show.panels import HAIRLINE, fit, font

_COLUMNS, _GAP, _LINE = 8, 8, 15
_FONT = 11


class Thumbnail(NamedTuple):
    """A frame of a video.

    Attributes:
      image: uint8 [h, w, 3].
      lines: what is written below, a few words each.
    """

    image: np.ndarray
    lines: tuple[str, ...]


def contact_sheet(thumbnails: Sequence[Thumbnail], title: str, width: int) -> np.ndarray:
    """Lays frames out in rows, in their order.

    Args:
      thumbnails: at least one; images of other shapes are fitted into cells that are three quarters as high as wide.
      title: a line above them.
      width: of a cell, in pixels.

    Returns:
      uint8 [H, W, 3].
    """
    height = width * 3 // 4
    text = _LINE * max(len(one.lines) for one in thumbnails)
    columns = min(_COLUMNS, len(thumbnails))
    rows = -(-len(thumbnails) // columns)
    cell = (width + _GAP, height + text + _GAP)
    face = font(_FONT)
    least = int(font(_FONT + 3, bold=True).getlength(title)) + 2 * _GAP
    top = 2 * _GAP + _LINE
    picture = Image.new("RGB", (max(columns * cell[0] + _GAP, least), top + rows * cell[1]), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP, _GAP), title, "black", font(_FONT + 3, bold=True))
    for i, (image, lines) in enumerate(thumbnails):
        x, y = _GAP + i % columns * cell[0], top + i // columns * cell[1]
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        picture.paste(fit(image, size), (x + (width - size[0]) // 2, y + (height - size[1]) // 2))
        draw.rectangle((x - 1, y - 1, x + width, y + height), outline=HAIRLINE)
        for number, line in enumerate(lines):
            draw.text((x, y + height + 2 + number * _LINE), _shortened(line, width), "black", face)
    return np.asarray(picture)


def _shortened(text: str, width: int) -> str:
    """A text as wide as a cell at most: its end, which tells the names of files apart."""
    face = font(_FONT)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(f"…{text}") > width:
        text = text[1:]
    return f"…{text}"
