"""RandAugment for clips: random operations of Pillow, with the same parameters for every frame of a clip."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Protocol

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mgmae_jax.errors import ConfigError

Operation = Callable[[Image.Image, float, int], Image.Image]
"""Changes an image by a strength from 0 to 1; if it has a direction, the sign, 1 or -1, gives it."""

_SPEC = re.compile(r"rand-m(\d+(?:\.\d+)?)-n(\d+)(?:-mstd(\d+(?:\.\d+)?))?-inc1")
_MAX_MAGNITUDE = 10
_SHARE = 0.5  # the share of the chosen operations that are applied


class _Enhancer(Protocol):
    """Pillow's: every kind has a class of its own, and their base class is private."""

    def enhance(self, factor: float) -> Image.Image: ...


def _enhance(kind: Callable[[Image.Image], _Enhancer], image: Image.Image, strength: float, sign: int) -> Image.Image:
    return kind(image).enhance(1 + 0.9 * strength * sign)


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=_GREY)


def _solarize_add(image: Image.Image, strength: float, sign: int) -> Image.Image:
    amount = min(128, int(110 * strength))
    return image.point([min(255, value + amount) if value < 128 else value for value in range(256)] * 3)


_GREY = (128, 128, 128)  # fills in from outside the frame
# The fifteen operations of the "increasing" set, whose effect grows with the magnitude.
OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda image, strength, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, strength, sign: ImageOps.equalize(image),
    "invert": lambda image, strength, sign: ImageOps.invert(image),
    "rotate": lambda image, strength, sign: image.rotate(
        30 * strength * sign, Image.Resampling.BICUBIC, fillcolor=_GREY
    ),
    "posterize": lambda image, strength, sign: ImageOps.posterize(image, 4 - int(4 * strength)),
    "solarize": lambda image, strength, sign: ImageOps.solarize(image, 256 - int(256 * strength)),
    "solarize_add": _solarize_add,
    "color": functools.partial(_enhance, ImageEnhance.Color),
    "contrast": functools.partial(_enhance, ImageEnhance.Contrast),
    "brightness": functools.partial(_enhance, ImageEnhance.Brightness),
    "sharpness": functools.partial(_enhance, ImageEnhance.Sharpness),
    "shear_x": lambda image, strength, sign: _affine(image, (1, 0.3 * strength * sign, 0, 0, 1, 0)),
    "shear_y": lambda image, strength, sign: _affine(image, (1, 0, 0, 0.3 * strength * sign, 1, 0)),
    "translate_x": lambda image, strength, sign: _affine(image, (1, 0, 0.45 * strength * sign * image.width, 0, 1, 0)),
    "translate_y": lambda image, strength, sign: _affine(image, (1, 0, 0, 0, 1, 0.45 * strength * sign * image.height)),
}


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """The recipe's augmentation (Cubuk et al., 2020), as timm and the official programs define it.

    Attributes:
      magnitude: mean of the magnitudes, from 0 to 10.
      layers: operations chosen for a clip; a random half of them is applied.
      std: standard deviation of the magnitudes.
    """

    magnitude: float
    layers: int
    std: float

    @classmethod
    def parse(cls, text: str) -> RandAugment:
        """Reads timm's notation, "rand-m7-n4-mstd0.5-inc1".

        Raises:
          ConfigError: the text is not of that form.
        """
        found = _SPEC.fullmatch(text)
        if found is None or float(found[1]) > _MAX_MAGNITUDE:
            want = "nothing, or text like rand-m7-n4-mstd0.5-inc1: magnitude up to 10, operations, spread"
            raise ConfigError("augment.rand", text, want)
        return cls(float(found[1]), int(found[2]), float(found[3] or 0))

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float, int]]:
        """Draws the operations for one clip: names of `OPERATIONS`, each with strength and sign."""
        drawn = []
        for name in rng.choice(list(OPERATIONS), self.layers):
            carried_out = rng.random() < _SHARE
            magnitude = np.clip(rng.normal(self.magnitude, self.std), 0, _MAX_MAGNITUDE)
            sign = 1 if rng.random() < 0.5 else -1
            if carried_out:
                drawn.append((str(name), float(magnitude) / _MAX_MAGNITUDE, sign))
        return drawn

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augments a clip, uint8 [T, H, W, 3]; the result has its shape."""
        return apply_operations(frames, self.draw(rng))


def apply_operations(frames: np.ndarray, drawn: list[tuple[str, float, int]]) -> np.ndarray:
    """Applies the same operations to every frame, one after another.

    Args:
      frames: uint8 [T, H, W, 3].
      drawn: see `RandAugment.draw`.

    Returns:
      uint8 [T, H, W, 3].
    """
    if not drawn:
        return frames

    def changed(frame: np.ndarray) -> np.ndarray:
        image = Image.fromarray(frame)
        for name, strength, sign in drawn:
            image = OPERATIONS[name](image, strength, sign)
        return np.asarray(image)

    return np.stack([changed(frame) for frame in frames])
