"""Writing pictures and animations to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.errors import FileError
from mgmae_jax.runtime.files import whole_file
from mgmae_jax.show.panels import ACCENT, FAINT, INK, PAPER, MaskedClip, cell_size, clip_rows, draw_cell, font, wrap

_GUTTER, _MARGIN, _HEADS = 8, 16, 40


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 RGB image `[H, W, 3]`, creating the folder if absent.

    Raises:
      FileError: the path does not end in .png, or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise FileError(path, "pictures are written as PNG; give a name that ends in .png.")
    with whole_file(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")


def write_animation(path: Path, images: list[np.ndarray], fps: float) -> None:
    """Writes an animation in the format of the path's suffix, creating the folder if absent.

    Args:
      path: ends in .gif (loops for ever) or .mp4 (H.264; an odd side gains a pixel by repeating its edge).
      images: uint8 RGB `[H, W, 3]`, one or more, all of one size.
      fps: images per second.

    Raises:
      FileError: the suffix is a different one, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise FileError(path, "animations are written as GIF or MP4; give a name that ends in .gif or .mp4.")
    with whole_file(path) as partial:
        if suffix == ".mp4":
            frames = np.stack(images)
            height, width = frames.shape[1:3]
            even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")
            partial.write_bytes(encode_mp4(even, fps))
        else:
            first, *rest = map(Image.fromarray, images)
            first.save(partial, format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)


def motion_animation(clip: MaskedClip, *, cell: int = 160) -> list[np.ndarray]:
    """The moving counterpart of `motion_strip`: one image per frame, with its quantities side by side.

    Args:
      clip: what to draw.
      cell: width of a panel in pixels.

    Returns:
      T uint8 RGB images `[rows, columns, 3]` of one size.
    """
    rows = clip_rows(clip)
    base = None if clip.flow is None else clip.base
    shown = [row for key, row in rows.items() if key not in ("flow_x", "flow_y")]
    size = cell_size(clip.frames, cell)
    width = 2 * _MARGIN + len(shown) * (cell + _GUTTER) - _GUTTER
    caption_lines = wrap(clip.caption, font(13), width - 2 * _MARGIN)
    top = _MARGIN + _HEADS
    bottom = top + size[1]
    page = Image.new("RGB", (width, bottom + (10 + 19 * len(caption_lines) if caption_lines else 0) + _MARGIN), PAPER)
    canvas = ImageDraw.Draw(page)
    lefts = [_MARGIN + i * (cell + _GUTTER) for i in range(len(shown))]
    for x, row in zip(lefts[1:], shown[1:], strict=True):
        canvas.text((x, top - 26), row.name, fill=INK, font=font(14, bold=True), anchor="ls")
        canvas.text((x, top - 9), row.note, fill=FAINT, font=font(11), anchor="ls")
    for i, line in enumerate(caption_lines):
        canvas.text((_MARGIN, bottom + 24 + 19 * i), line, fill=INK, font=font(13), anchor="ls")

    images = []
    for t in range(len(clip.frames)):
        picture = page.copy()
        canvas = ImageDraw.Draw(picture)
        canvas.text((lefts[0], top - 26), f"frame {t}", fill=INK, font=font(14, bold=True), anchor="ls")
        for x, row in zip(lefts, shown, strict=True):
            draw_cell(picture, row.images[t], (x, top), size, marked=t == base and row is shown[0])
        if t == base:
            canvas.text((lefts[0], top - 9), "base frame", fill=ACCENT, font=font(11), anchor="ls")
        images.append(np.asarray(picture))
    return images
