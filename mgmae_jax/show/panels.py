"""The pictures that strips and animations are laid out from, one stack of frames for each quantity."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mgmae_jax.show.flow_color import component_to_rgb, flow_to_rgb

HIDDEN_GREY = 212  # for half brightness
_SHINES_THROUGH = 0.16
PAPER, INK, FAINT, ACCENT = (250, 250, 248), (34, 34, 34), (120, 120, 120), (214, 69, 35)
HAIRLINE = (222, 222, 218)


class Row(NamedTuple):
    """One quantity over time.

    Args:
      name: what it is.
      note: its scale or how to read it; "" if there is none.
      images: uint8 `[T, H, W, 3]`.
    """

    name: str
    note: str
    images: np.ndarray


class MaskedClip(NamedTuple):
    """A clip, its mask and how it was made, as pictures show them.

    Args:
      frames: uint8 `[T, H, W, 3]`.
      flow: float32 `[T, H, W, 2]` in pixels, for every frame but the base, which has zeros; None if the mask needs no
        flow: then flow, mask map and base frame are not shown.
      base: index of the base frame.
      mask_map: float32 `[T, H, W]`, the visibility volume, any range.
      visible: bool `[t, h, w]`, by token.
      patch: side of a token's cube in pixels.
      tubelet: its length in frames.
      reconstruction: uint8 `[T, H, W, 3]`, or None to leave it out.
      untrained: the reconstruction before training, or None to leave it out.
      caption: the text below the picture, wrapped to the picture's width.
    """

    frames: np.ndarray
    flow: np.ndarray | None
    base: int
    mask_map: np.ndarray
    visible: np.ndarray
    patch: int
    tubelet: int
    reconstruction: np.ndarray | None
    caption: str
    untrained: np.ndarray | None = None


def masked_frames(frames: np.ndarray, visible: np.ndarray, *, patch: int, tubelet: int) -> np.ndarray:
    """Frames with the hidden cubes painted grey, with their content showing through faintly.

    Args:
      frames: uint8 `[T, H, W, 3]`.
      visible: bool `[t, h, w]`, by token; t * tubelet = T, h * patch = H, w * patch = W.
      patch: side of a cube in pixels.
      tubelet: its length in frames.

    Returns:
      uint8 `[T, H, W, 3]`.
    """
    pixels = visible.repeat(tubelet, axis=0).repeat(patch, axis=1).repeat(patch, axis=2)
    faint = HIDDEN_GREY + _SHINES_THROUGH * (frames.mean(axis=-1, keepdims=True) - 127.5)
    return np.where(pixels[..., None], frames, np.round(faint).astype(np.uint8))


def flow_scale(flow: np.ndarray) -> float:
    """The length in pixels that flow pictures of a clip are scaled by: its 99th percentile, at least 1."""
    return max(1.0, float(np.percentile(np.linalg.norm(flow, axis=-1), 99)))


def clip_rows(clip: MaskedClip) -> dict[str, Row]:
    """The rows to show for a clip.

    Returns:
      Rows by key, in the order of the paper's Figure 5: frames; with flow flow_x, flow_y, flow and map; masked; with
      flow tube, the base frame's visible cubes at all times, as in tube masking; with a
      reconstruction reconstruction, and before it untrained if the clip has it.
    """
    cubes = {"patch": clip.patch, "tubelet": clip.tubelet}
    rows = {"frames": Row("frames", "", clip.frames)}
    if clip.flow is not None:
        scale = flow_scale(clip.flow)
        length = np.linalg.norm(clip.flow, axis=-1, keepdims=True)
        at_most_scale = clip.flow * (scale / np.maximum(length, scale))
        brightness = (clip.mask_map - clip.mask_map.min()) / max(float(np.ptp(clip.mask_map)), 1e-6)
        map_images = matplotlib.colormaps["viridis"](brightness, bytes=True)[..., :3]
        rows["flow_x"] = Row("flow x", f"±{scale:.1f} px", component_to_rgb(clip.flow[..., 0], scale))
        rows["flow_y"] = Row("flow y", f"±{scale:.1f} px", component_to_rgb(clip.flow[..., 1], scale))
        rows["flow"] = Row("flow", f"rim {scale:.1f} px", flow_to_rgb(at_most_scale, scale))
        rows["map"] = Row("mask map", "bright = visible", map_images)
    masked = masked_frames(clip.frames, clip.visible, **cubes)
    rows["masked"] = Row("masked", f"{clip.visible.mean():.0%} visible", masked)
    if clip.flow is not None:
        still = np.broadcast_to(clip.visible[clip.base // clip.tubelet], clip.visible.shape)
        rows["tube"] = Row("tube mask", "to compare", masked_frames(clip.frames, still, **cubes))
    if clip.untrained is not None:
        rows["untrained"] = Row("reconstruction", "before training", clip.untrained)
    if clip.reconstruction is not None:
        rows["reconstruction"] = Row("reconstruction", "", clip.reconstruction)
    return rows


def cell_size(frames: np.ndarray, width: int) -> tuple[int, int]:
    """Width and height of a cell that shows `[T, H, W, 3]` at the given width."""
    return width, round(width * frames.shape[1] / frames.shape[2])


def fit(image: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A uint8 image `[H, W, 3]` at (width, height)."""
    shrinks = size[0] < image.shape[1]
    return Image.fromarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        if size != (image.shape[1], image.shape[0])
        else image
    )


@functools.cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with Matplotlib, at a size in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def wrap(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Breaks text between words into lines of limited width in pixels; a longer word stays whole."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and face.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def draw_cell(
    picture: Image.Image, image: np.ndarray, corner: tuple[int, int], size: tuple[int, int], *, marked: bool
) -> None:
    """Puts an image `[H, W, 3]` into the cell at a corner (x, y), within a hairline or, if marked, a bold line."""
    (x, y), (width, height) = corner, size
    line = 2 if marked else 1
    around = (x - line, y - line, x + width + line - 1, y + height + line - 1)
    picture.paste(fit(image, size), corner)
    ImageDraw.Draw(picture).rectangle(around, outline=ACCENT if marked else HAIRLINE, width=line)
