"""The multi-scale crop of the pre-training recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np


class CropBox(NamedTuple):
    """A rectangle of an image, in whole pixels; `y`, `x` is its top left corner."""

    y: int
    x: int
    height: int
    width: int


def crop_sizes(
    height: int, width: int, *, scales: Sequence[float] = (1, 0.875, 0.75, 0.66), max_distort: int = 1, size: int = 224
) -> list[tuple[int, int]]:
    """Lists the sizes that the multi-scale crop chooses from.

    Args:
      height: of the frame, in pixels.
      width: likewise.
      scales: sides of the crop, relative to the shorter side of the frame.
      max_distort: how many places apart in `scales` the height and the width of a crop may be.
      size: the crop is resized to this; a side that is within 2 pixels of it is made equal to it.

    Returns:
      (height, width) of each, from 1 to the shorter side of the frame.
    """
    shorter = min(height, width)
    sides = [max(int(shorter * scale), 1) for scale in scales]
    # The official program does this for a side a little too short too, and then crops beyond the frame.
    sides = [min(size, shorter) if abs(side - size) < 3 else side for side in sides]
    return [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= max_distort]


def crop_offsets(height: int, width: int, crop_height: int, crop_width: int) -> list[tuple[int, int]]:
    """Lists the 13 fixed places of a crop: corners, centre, middles of the edges and of the quarters.

    Args:
      height: of the frame, in pixels.
      width: likewise.
      crop_height: of the crop, at most `height`.
      crop_width: likewise.

    Returns:
      (y, x) of the top left corner of each; places may coincide.
    """
    y, x = (height - crop_height) // 4, (width - crop_width) // 4
    quarters = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
    return [(i * y, j * x) for i, j in quarters]


def multi_scale_crop_box(
    height: int,
    width: int,
    *,
    rng: np.random.Generator,
    scales: Sequence[float] = (1, 0.875, 0.75, 0.66),
    max_distort: int = 1,
    size: int = 224,
) -> CropBox:
    """Draws a crop of the pre-training recipe: one of `crop_sizes` at one of `crop_offsets`, each uniformly.

    Args:
      height: of the frame, in pixels.
      width: likewise.
      rng: draws the size and the place.
      scales: see `crop_sizes`.
      max_distort: see `crop_sizes`.
      size: see `crop_sizes`.

    Returns:
      A box inside the frame.
    """
    sizes = crop_sizes(height, width, scales=scales, max_distort=max_distort, size=size)
    crop_height, crop_width = sizes[rng.integers(len(sizes))]
    offsets = crop_offsets(height, width, crop_height, crop_width)
    return CropBox(*offsets[rng.integers(len(offsets))], crop_height, crop_width)


def crop_resize(frames: np.ndarray, box: CropBox, size: int) -> np.ndarray:
    """Cuts a box out of every frame and resizes it bilinearly.

    The recipe's resize (Pillow's bilinear) averages over what it shrinks. OpenCV's bilinear does not; its area average
    is nearer, so that is used for shrinking.

    Args:
      frames: uint8 [T, H, W, 3].
      box: inside the frames.
      size: of the result, in pixels.

    Returns:
      uint8 [T, size, size, 3].
    """
    interpolation = cv2.INTER_AREA if min(box.height, box.width) > size else cv2.INTER_LINEAR
    crops = frames[:, box.y : box.y + box.height, box.x : box.x + box.width]
    return np.stack([cv2.resize(crop, (size, size), interpolation=interpolation) for crop in crops])
