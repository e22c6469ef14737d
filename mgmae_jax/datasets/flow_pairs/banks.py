"""Textures and outlines that synthetic scenes are made of: drawn once from a seed, with numpy only.

Natural images have a power spectrum that falls with frequency, edges at all scales, repeated patterns and flat areas;
each kind of texture here has some of that, and every texture is periodic.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

SIDE = 256
"""Side of a texture and of an outline's picture, in pixels."""
RADIUS = 120.0
"""Pixels from the centre of an outline's picture to its furthest point."""
TEXTURES = 160
SHAPES = 160


@dataclasses.dataclass(frozen=True)
class Banks:
    """Material for scenes.

    Args:
      textures: uint8 `[TEXTURES, SIDE, SIDE, 3]`, periodic.
      shapes: uint8 `[SHAPES, SIDE, SIDE]`, coverage 0 to 255; number 0 covers everything.
      noise: uint8 `[SIDE, SIDE, 3]`, normal with mean 127.5 and standard deviation 32.
    """

    textures: np.ndarray
    shapes: np.ndarray
    noise: np.ndarray


@functools.lru_cache(maxsize=2)
def make_banks(seed: int) -> Banks:
    """The material of the scenes of `seed`; takes a few seconds the first time."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    kinds = (_natural, _posterised, _leaves, _stripes, _plain)
    textures = [_finished(rng, kinds[i % len(kinds)](rng)) for i in range(TEXTURES)]
    outlines = (_polygon, _ellipse, _blob)
    shapes = [_coverage(rng, outlines[i % len(outlines)](rng)) for i in range(SHAPES - 1)]
    everything = np.full((SIDE, SIDE), 255, np.uint8)
    noise = np.clip(np.round(127.5 + 32 * rng.standard_normal((SIDE, SIDE, 3))), 0, 255).astype(np.uint8)
    return Banks(np.stack(textures), np.stack([everything, *shapes]), noise)


def _spectrum_noise(rng: np.random.Generator, slope: float, channels: int = 1) -> np.ndarray:
    """Noise `[SIDE, SIDE, channels]` of mean 0 and variance 1 whose amplitude falls as 1 / frequency ** slope."""
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE, channels)), axes=(0, 1))
    noise = np.fft.irfft2(spectrum * frequency[..., None] ** -slope, s=(SIDE, SIDE), axes=(0, 1))
    return noise / noise.std(axis=(0, 1), keepdims=True)


def _natural(rng: np.random.Generator) -> np.ndarray:
    # Channels of natural images are correlated: mostly shared noise, and a little independent noise for each.
    common = _spectrum_noise(rng, rng.uniform(0.8, 1.7))
    return common + rng.uniform(0.1, 0.7) * _spectrum_noise(rng, rng.uniform(0.8, 1.7), 3)


def _posterised(rng: np.random.Generator) -> np.ndarray:
    noise = _spectrum_noise(rng, rng.uniform(1.2, 2.2))[..., 0]
    levels = int(rng.integers(2, 8))
    level = np.digitize(noise, np.quantile(noise, np.linspace(0, 1, levels + 1)[1:-1]))
    return _palette(rng, levels)[level] + rng.uniform(0, 0.3) * _natural(rng)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Discs, boxes and bars of all sizes, each hiding what lies below it ("dead leaves")."""
    picture = np.broadcast_to(_palette(rng, 1)[0], (SIDE, SIDE, 3)).copy()
    count = int(rng.integers(40, 140))
    radii = np.sort(6.0 / (1 - rng.uniform(0, 0.9, count)) ** 1.2)[::-1]
    colours = _palette(rng, count)
    axis = np.arange(SIDE)
    for radius, colour in zip(radii, colours, strict=True):
        x, y = rng.uniform(0, SIDE, 2)
        # The distance to the nearest copy makes the picture periodic.
        dx = ((axis - x + SIDE / 2) % SIDE - SIDE / 2)[None]
        dy = ((axis - y + SIDE / 2) % SIDE - SIDE / 2)[:, None]
        angle = rng.uniform(0, np.pi)
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        across = across * rng.choice([1.0, 1.0, 2.0, 5.0])
        distance = np.hypot(along, across) if rng.random() < 0.5 else np.maximum(abs(along), abs(across))
        picture[distance < min(radius, SIDE / 2.2)] = colour
    return picture + rng.uniform(0, 0.4) * _natural(rng)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    axis = np.arange(SIDE) * (2 * np.pi / SIDE)
    bend = rng.uniform(0, 0.6) * _spectrum_noise(rng, 2.0)[..., 0]

    def wave() -> np.ndarray:
        kx, ky = rng.integers(-24, 25, 2)  # whole periods only
        return np.sin(kx * axis[None] + ky * axis[:, None] + bend)

    pattern = wave() if rng.random() < 0.5 else wave() * wave()
    if rng.random() < 0.5:
        pattern = np.clip(pattern * 4, -1, 1)
    dark, light = _palette(rng, 2)
    return dark + (light - dark) * (pattern[..., None] + 1) / 2 + rng.uniform(0, 0.6) * _natural(rng)


def _plain(rng: np.random.Generator) -> np.ndarray:
    shade = _spectrum_noise(rng, 2.5) * rng.uniform(0.2, 1.0)
    return _palette(rng, 1)[0] + shade + rng.uniform(0.02, 0.3) * _natural(rng)


def _palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours `[count, 3]` around 0, more different in brightness than in hue."""
    return 1.2 * rng.standard_normal((count, 1)) + 0.5 * rng.standard_normal((count, 3))


def _finished(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Gives a picture around 0 a brightness and a contrast, often low ones, as uint8."""
    contrast = np.clip(38 * np.exp(0.5 * rng.standard_normal()), 8, 80)
    picture = (picture - picture.mean(axis=(0, 1))) / max(picture.std(), 1e-3)
    tint = rng.uniform(50, 205) + 25 * rng.standard_normal(3)
    return np.clip(np.round(tint + contrast * picture), 0, 255).astype(np.uint8)


_ANGLES = 720


def _ellipse(rng: np.random.Generator) -> np.ndarray:
    return np.ones(_ANGLES)  # a scene stretches and turns every outline


def _blob(rng: np.random.Generator) -> np.ndarray:
    angle = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    waves = np.arange(2, 8)
    sizes = rng.uniform(0, 0.6, len(waves)) / waves
    phases = rng.uniform(0, 2 * np.pi, len(waves))
    return 1 + (sizes[:, None] * np.cos(waves[:, None] * angle + phases[:, None])).sum(axis=0)


def _polygon(rng: np.random.Generator) -> np.ndarray:
    corners = int(rng.integers(3, 9))
    spread = 2 * np.pi / corners
    at = np.arange(corners) * spread + rng.uniform(-0.2, 0.2, corners) * spread
    reach = rng.uniform(0.45, 1.0, corners)
    angle = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    nearest = np.searchsorted(at, angle, side="right") - 1
    first, second = nearest % corners, (nearest + 1) % corners
    start, end = (angle - at[first]) % (2 * np.pi), (at[second] - angle) % (2 * np.pi)
    # The straight line between two corners, in polar coordinates.
    return (
        reach[first]
        * reach[second]
        * np.sin(start + end)
        / (reach[first] * np.sin(start) + reach[second] * np.sin(end))
    )


def _coverage(rng: np.random.Generator, outline: np.ndarray) -> np.ndarray:
    """The picture of an outline (its distance from the centre by angle), one in four with holes."""
    alpha = _inside(outline * (RADIUS / outline.max()), (0.0, 0.0))
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 4))):
            hole = _blob(rng) * rng.uniform(0.1, 0.35) * RADIUS
            alpha = np.minimum(alpha, 1 - _inside(hole, rng.uniform(-0.4, 0.4, 2) * RADIUS))
    return np.round(255 * alpha).astype(np.uint8)


def _inside(outline: np.ndarray, centre: tuple[float, float] | np.ndarray) -> np.ndarray:
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    x, y = axis[None] - centre[0], axis[:, None] - centre[1]
    reach = outline[(np.arctan2(y, x) * (_ANGLES / (2 * np.pi))).astype(int) % _ANGLES]
    return np.clip(reach - np.hypot(x, y) + 0.5, 0, 1)
