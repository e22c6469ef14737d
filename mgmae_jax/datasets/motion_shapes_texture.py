"""Textures and outlines of the motion-shapes videos: what things look like, which never depends on how they move."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

PATTERNS = ("noise", "stripes", "checks", "blobs")
OUTLINES = ("circle", "triangle", "square", "pentagon", "hexagon", "star", "flower")
CHUNKY_OUTLINES = ("circle", "square", "hexagon")
_CORNERS = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6}


def power_noise(rng: np.random.Generator, size: int, exponent: float, shortest: float = 4.0) -> np.ndarray:
    """Periodic noise whose amplitude falls as a power of the frequency, as in natural images.

    Args:
      rng: source of the noise.
      size: side in pixels.
      exponent: of the amplitude spectrum 1 / f^exponent; 1 looks natural, 2 is cloudy.
      shortest: wavelength in pixels at which the spectrum is rolled off, so that resampling stays faithful.

    Returns:
      float64 `[size, size]` with mean 0 and standard deviation 1; it tiles without a seam.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    amplitude = frequency**-exponent * np.exp(-np.square(np.where(np.isinf(frequency), 0.0, frequency) * shortest))
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * amplitude, s=(size, size))
    return noise / noise.std()


def texture(
    rng: np.random.Generator, size: int, colours: tuple[np.ndarray, np.ndarray], period: tuple[float, float]
) -> np.ndarray:
    """A periodic two-coloured texture with detail everywhere, so that its motion can be measured in both directions.

    Args:
      rng: source of the pattern.
      size: side in pixels.
      colours: two RGB colours `[3]`, 0 to 255.
      period: shortest and longest wavelength of the pattern in pixels.

    Returns:
      float32 `[size, size, 3]`, 0 to 255.
    """
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    cycles, angle = size / rng.uniform(*period), rng.uniform(0.0, np.pi)
    # Whole numbers of cycles keep the texture periodic.
    kx, ky = np.round(cycles * np.cos(angle)), np.round(cycles * np.sin(angle))
    y, x = np.mgrid[:size, :size] * (2 * np.pi / size)
    detail = power_noise(rng, size, exponent=1.0)
    if pattern == "noise":
        value = power_noise(rng, size, exponent=rng.uniform(1.0, 1.6))
    elif pattern == "stripes":
        value = np.tanh(2.5 * np.sin(kx * x + ky * y))
    elif pattern == "checks":
        value = np.tanh(4.0 * np.sin(kx * x + ky * y) * np.sin(kx * y - ky * x))
    else:
        value = np.tanh(3.0 * power_noise(rng, size, exponent=1.0, shortest=1.2 * size / cycles))
    mix = np.clip(0.5 + 0.38 * value + 0.16 * detail, 0.0, 1.0)[..., None]
    return (colours[0] * (1.0 - mix) + colours[1] * mix).astype(np.float32)


def vivid_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright and a dark saturated RGB colour of different hues, for sprites."""
    hue = rng.uniform()
    bright = _rgb(hue, rng.uniform(0.6, 0.95), rng.uniform(0.85, 1.0))
    dark = _rgb(hue + rng.uniform(0.2, 0.8), rng.uniform(0.6, 0.95), rng.uniform(0.25, 0.5))
    return dark, bright


def muted_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two pale RGB colours of middling brightness, for backgrounds."""
    hue, value = rng.uniform(), rng.uniform(0.3, 0.55)
    dark = _rgb(hue, rng.uniform(0.1, 0.35), value)
    light = _rgb(hue + rng.uniform(-0.15, 0.15), rng.uniform(0.05, 0.3), value + rng.uniform(0.2, 0.3))
    return dark, light


def outline_mask(outline: str, radius: float, size: int) -> np.ndarray:
    """Coverage of a centred shape.

    Args:
      outline: one of `OUTLINES`.
      radius: distance in pixels from the centre to the farthest point.
      size: side of the result in pixels.

    Returns:
      float32 `[size, size]` in 0..1, antialiased.
    """
    angle = np.linspace(0.0, 2 * np.pi, 360, endpoint=False)
    if outline in _CORNERS:
        sector = 2 * np.pi / _CORNERS[outline]
        distance = np.cos(sector / 2) / np.cos(angle % sector - sector / 2)
    elif outline == "star":
        distance = 0.5 + 0.5 * np.abs(2.0 * (angle * 5 / (2 * np.pi) % 1.0) - 1.0)
    elif outline == "flower":
        distance = 0.8 + 0.2 * np.cos(6 * angle)
    else:
        distance = np.ones_like(angle)
    supersample = 4
    points = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * distance[:, None] * radius * supersample
    canvas = np.zeros((size * supersample, size * supersample), np.uint8)
    cv2.fillPoly(canvas, [np.round(points + (size * supersample - 1) / 2).astype(np.int32)], 255)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return 255.0 * np.asarray(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
