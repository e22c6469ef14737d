"""The paper's Figure 5 for any clip: frames, flow, mask map, visible tokens, reconstruction; one column per frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from mgmae_jax.show.flow_color import color_wheel
from mgmae_jax.show.panels import (
    ACCENT,
    FAINT,
    INK,
    PAPER,
    MaskedClip,
    Row,
    cell_size,
    clip_rows,
    draw_cell,
    fit,
    font,
    wrap,
)

_GUTTER, _MARGIN, _LABELS, _HEADS = 4, 16, 116, 20


def motion_strip(clip: MaskedClip, *, max_columns: int = 8, cell: int = 112) -> np.ndarray:
    """Draws how a clip's motion became its mask.

    Args:
      clip: what to draw.
      max_columns: 1 or more; a longer clip shows evenly spaced frames, including the base frame.
      cell: width of a column in pixels.

    Returns:
      uint8 `[rows, columns, 3]` RGB.
    """
    columns = pick_columns(len(clip.frames), clip.base, max_columns)
    base = None if clip.flow is None else clip.base
    return row_strip(clip_rows(clip), columns, base, caption=clip.caption, cell=cell)


def row_strip(
    rows: Mapping[str, Row], columns: Sequence[int], base: int | None, *, caption: str, cell: int
) -> np.ndarray:
    """Draws rows of pictures over time.

    Args:
      rows: by key, as from `clip_rows`; "flow" gets a colour wheel, "map" a mark on the base frame.
      columns: the frames to show.
      base: the base frame, or None to mark none.
      caption: the text below the picture.
      cell: width of a column in pixels.

    Returns:
      uint8 `[rows, columns, 3]` RGB.
    """
    size = cell_size(next(iter(rows.values())).images, cell)
    texts = [(font(13, bold=True), row.name) for row in rows.values()] + [(font(11), row.note) for row in rows.values()]
    labels = max(_LABELS, *(round(face.getlength(text)) + _GUTTER for face, text in texts))
    width = 2 * _MARGIN + labels + len(columns) * (cell + _GUTTER)
    caption_lines = wrap(caption, font(13), width - 2 * _MARGIN)
    top = _MARGIN + _HEADS
    bottom = top + len(rows) * (size[1] + _GUTTER)
    height = bottom + (8 + 19 * len(caption_lines) if caption_lines else 0) + _MARGIN
    picture = Image.new("RGB", (width, height), PAPER)
    canvas = ImageDraw.Draw(picture)
    lefts = [_MARGIN + labels + i * (cell + _GUTTER) for i in range(len(columns))]

    for x, t in zip(lefts, columns, strict=True):
        head, face, ink = (f"{t} base", font(12, bold=True), ACCENT) if t == base else (str(t), font(12), FAINT)
        canvas.text((x + cell / 2, top - 8), head, fill=ink, font=face, anchor="ms")
    for i, (key, row) in enumerate(rows.items()):
        y = top + i * (size[1] + _GUTTER)
        canvas.text((_MARGIN, y + 16), row.name, fill=INK, font=font(13, bold=True), anchor="ls")
        canvas.text((_MARGIN, y + 33), row.note, fill=FAINT, font=font(11), anchor="ls")
        if key == "flow":
            wheel = min(44, size[1] - 42)
            if wheel >= 16:
                picture.paste(_wheel(wheel), (_MARGIN, y + 41))
        for x, t in zip(lefts, columns, strict=True):
            draw_cell(picture, row.images[t], (x, y), size, marked=key == "map" and t == base)
    for i, line in enumerate(caption_lines):
        canvas.text((_MARGIN, bottom + 22 + 19 * i), line, fill=INK, font=font(13), anchor="ls")
    return np.asarray(picture)


def pick_columns(frames: int, base: int, max_columns: int) -> list[int]:
    """Every n-th frame, the base frame among them, with the smallest n that gives at most `max_columns`."""
    step = -(-frames // max_columns)
    return list(range(base % step, frames, step))


def _wheel(side: int) -> Image.Image:
    """The colour wheel on paper, drawn large and shrunk for a smooth rim."""
    large = color_wheel(4 * side)
    offset = np.arange(4 * side) - (4 * side - 1) / 2
    large[np.hypot(*np.meshgrid(offset, offset)) > 2 * side] = PAPER
    return fit(large, (side, side))
