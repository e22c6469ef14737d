"""Textures and outlines of the motion-shapes videos: what things look like, which never depends on how they move.

Colours change slowly, so that a hidden part can be guessed from the parts around it; fine detail of low amplitude lies
over them, so that motion can be measured everywhere.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

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


def cloud_texture(
    rng: np.random.Generator, size: int, colours: tuple[np.ndarray, np.ndarray], wavelength: float
) -> np.ndarray:
    """Two colours that give way to one another slowly across a periodic field, for backgrounds.

    Args:
      rng: source of the pattern.
      size: side in pixels.
      colours: two RGB colours `[3]`, 0 to 255.
      wavelength: of the field in pixels; shorter waves are weak.

    Returns:
      float32 `[size, size, 3]`, 0 to 255; it tiles without a seam.
    """
    cloud = power_noise(rng, size, exponent=1.0, shortest=wavelength / (2 * np.pi))
    return _blend(colours, 0.35 * np.tanh(1.2 * cloud), 0.05 * power_noise(rng, size, exponent=1.0))


def gradient_texture(
    rng: np.random.Generator, size: int, colours: tuple[np.ndarray, np.ndarray], radius: float
) -> np.ndarray:
    """One colour turning into another across a disc, in a random direction, for sprites.

    Args:
      rng: source of the pattern.
      size: side in pixels.
      colours: two RGB colours `[3]`, 0 to 255.
      radius: of the centred disc in pixels.

    Returns:
      float32 `[size, size, 3]`, 0 to 255.
    """
    angle = rng.uniform(0.0, 2 * np.pi)
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / radius
    slope = 0.45 * np.tanh(1.5 * (x * np.cos(angle) + y * np.sin(angle)))
    return _blend(colours, slope, 0.06 * power_noise(rng, size, exponent=1.0))


def vivid_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright and a dark saturated RGB colour of different hues, for sprites."""
    hue = rng.uniform()
    bright = _rgb(hue, rng.uniform(0.6, 0.95), rng.uniform(0.85, 1.0))
    dark = _rgb(hue + rng.uniform(0.2, 0.8), rng.uniform(0.6, 0.95), rng.uniform(0.25, 0.5))
    return dark, bright


def muted_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A dark and a light RGB colour of kindred hues and little saturation, for backgrounds."""
    hue = rng.uniform()
    dark = _rgb(hue, rng.uniform(0.1, 0.5), rng.uniform(0.15, 0.4))
    light = _rgb(hue + rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.5), rng.uniform(0.6, 0.9))
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


def _blend(colours: tuple[np.ndarray, np.ndarray], large: np.ndarray, detail: np.ndarray) -> np.ndarray:
    """Mixes two colours half and half, and more or less of the second where two patterns `[size, size]` say so."""
    mix = np.clip(0.5 + large + detail, 0.0, 1.0).astype(np.float32)[..., None]
    first, second = (colour.astype(np.float32) for colour in colours)
    return first + (second - first) * mix


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return 255.0 * np.asarray(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
