"""The crops of the pre-training and fine-tuning recipes, and random erasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD


class CropBox(NamedTuple):
    """A rectangle of an image, in whole pixels; `y`, `x` is its top left corner."""

    y: int
    x: int
    height: int
    width: int


def crop_sizes(
    height: int, width: int, *, scales: Sequence[float] = (1, 0.875, 0.75, 0.66), max_distort: int = 1, size: int = 224
) -> list[tuple[int, int]]:
    """Lists the sizes that the multi-scale crop is drawn from.

    Args:
      height: the frame's height, in pixels.
      width: the frame's width, in pixels.
      scales: sides of the crop, relative to the shorter side of the frame.
      max_distort: how many places apart in `scales` the height and the width of a crop may be.
      size: the crop is resized to this; a side that is within 2 pixels of it is made equal to it.

    Returns:
      (height, width) of each, from 1 to the shorter side of the frame.
    """
    shorter = min(height, width)
    sides = [max(int(shorter * scale), 1) for scale in scales]
    # The official program also does this for a side that is slightly too short, and then crops beyond the frame.
    sides = [min(size, shorter) if abs(side - size) < 3 else side for side in sides]
    return [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= max_distort]


def crop_offsets(height: int, width: int, crop_height: int, crop_width: int) -> list[tuple[int, int]]:
    """Lists the 13 fixed places of a crop: corners, centre, middles of the edges and of the quarters.

    Args:
      height: the frame's height, in pixels.
      width: the frame's width, in pixels.
      crop_height: the crop's height, at most `height`.
      crop_width: the crop's width, at most `width`.

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
      height: the frame's height, in pixels.
      width: the frame's width, in pixels.
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


def random_resized_crop_box(
    height: int,
    width: int,
    *,
    rng: np.random.Generator,
    min_area: float = 0.08,
    aspects: tuple[float, float] = (3 / 4, 4 / 3),
) -> CropBox:
    """Draws a crop of the fine-tuning recipe.

    Args:
      height: the frame's height, in pixels.
      width: the frame's width, in pixels.
      rng: draws size, shape and place.
      min_area: the least share of the frame; up to all of it, uniformly.
      aspects: bounds of width / height, drawn uniformly in the logarithm.

    Returns:
      A box inside the frame; after ten draws that do not fit, the largest one in the middle within `aspects`.
    """
    narrowest, widest = map(math.log, aspects)
    for _ in range(10):
        area = rng.uniform(min_area, 1) * height * width
        aspect = math.exp(rng.uniform(narrowest, widest))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return CropBox(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
    h, w = min(height, max(round(width / aspects[0]), 1)), min(width, max(round(height * aspects[1]), 1))
    return CropBox((height - h) // 2, (width - w) // 2, h, w)


def erase_box(frames: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Random erasing (Zhong et al., 2020), "pixel" mode: fills one box, the same in every frame, with noise.

    The noise is normal in the network's units, and different in every frame. Conversion to bytes clips it at black and
    white.

    Args:
      frames: uint8 [T, H, W, 3].
      rng: draws the box, 2% to a third of the frame and from 0.3 to 1/0.3 as high as it is wide, and the noise.

    Returns:
      A changed copy, or the frames themselves after a hundred boxes that do not fit.
    """
    count, height, width, _ = frames.shape
    for _ in range(100):
        area = rng.uniform(0.02, 1 / 3) * height * width
        aspect = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
            noise = rng.standard_normal((count, h, w, 3), np.float32) * IMAGENET_STD + IMAGENET_MEAN
            erased = frames.copy()
            erased[:, y : y + h, x : x + w] = np.clip(noise * 255, 0, 255).round()
            return erased
    return frames


def crop_resize(frames: np.ndarray, box: CropBox, size: int, *, average: bool = True) -> np.ndarray:
    """Cuts a box out of every frame and resizes it bilinearly.

    The pre-training recipe's resize (Pillow's bilinear) averages when it shrinks. OpenCV's bilinear does not; its area
    average is closer, so that is used for shrinking. The fine-tuning recipe's resize does not average either.

    Args:
      frames: uint8 [T, H, W, 3].
      box: the box to cut out, inside the frames.
      size: the result's side, in pixels.
      average: whether to average when shrinking.

    Returns:
      uint8 [T, size, size, 3].
    """
    interpolation = cv2.INTER_AREA if average and min(box.height, box.width) > size else cv2.INTER_LINEAR
    crops = frames[:, box.y : box.y + box.height, box.x : box.x + box.width]
    return np.stack([cv2.resize(crop, (size, size), interpolation=interpolation) for crop in crops])
