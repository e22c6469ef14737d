"""Synthetic scenes: what is drawn for a pair of frames, as a small bundle of numbers.

A scene is a stack of flat layers, a background and 1 to 12 shapes. Layer k takes point p of frame 1 to

    q = M_k(p + d_k(p)),

a smooth non-rigid displacement d and then a homography M (the layer's own motion, then the camera's): that is the
flow. Frame 1 shows the layer's picture at p + d(p), frame 2 at M^-1(q), so both can be drawn, and the flow is exact,
without inverting d.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mgmae_jax.datasets.flow_pairs.banks import RADIUS, SHAPES, SIDE, TEXTURES

LAYERS = 13
WAVES = 2
SLOW = 1 / 3
"""Part of the scenes in which nothing moves by more than a pixel, as in much of what videos show."""
FAST = 1 / 6
"""Part of the scenes in which the camera sweeps: nearly all that the frame shows moves by tens of pixels."""
_ATTACHED = 0.15
"""Part of the shapes that move with the camera, such as handlebars, or what it follows."""
_CLEAN = 0.3
"""Part of the scenes that a good camera takes: sharp, uncompressed, in full colour and with hardly any noise."""


class Scene(NamedTuple):
    """A pair before it is drawn; arrays of float32 or int32, of a fixed shape. Layers go from back to front.

    Args:
      layers: how many there are; the others are not drawn.
      texture: index of each layer's texture, `[LAYERS]`.
      shape: index of each layer's outline, `[LAYERS]`.
      texture_map: affine maps from frame 1 to texture pixels, `[LAYERS, 3, 3]`.
      shape_map: affine maps from frame 1 to outline pixels, `[LAYERS, 3, 3]`.
      colour: gain and offset of each layer's channels, `[LAYERS, 2, 3]`.
      motion: homographies from frame 1 to frame 2, `[LAYERS, 3, 3]`.
      waves: of d: amplitude x, y, wave vector x, y and phase, `[LAYERS, WAVES, 5]`; zero amplitude where rigid.
      shutter: part of the time between the frames for which each is exposed; 0 is sharp.
      light: of each frame and channel: gain, offset and gamma, `[2, 3, 3]`.
      noise: standard deviation, 0 to 255.
      noise_offset: where each frame's noise starts in the bank, `[2, 2]`.
      saturation: 1 leaves colours as they are, 0 makes them grey.
      quantisation: of block-wise cosine coefficients, a factor on JPEG's table; 0 is none.
      block_offset: where the blocks of each frame start, 0 to 7, `[2, 2]`.
      blur: of each frame, 0 (sharp) to 2, `[2]`.
    """

    layers: np.ndarray
    texture: np.ndarray
    shape: np.ndarray
    texture_map: np.ndarray
    shape_map: np.ndarray
    colour: np.ndarray
    motion: np.ndarray
    waves: np.ndarray
    shutter: np.ndarray
    light: np.ndarray
    noise: np.ndarray
    noise_offset: np.ndarray
    saturation: np.ndarray
    quantisation: np.ndarray
    block_offset: np.ndarray
    blur: np.ndarray


def sample_scene(seed: int, index: int, size: int, *, photometric: bool = True) -> Scene:
    """Draws a scene, a pure function of its arguments.

    Args:
      seed: the dataset's seed, 0 or more.
      index: the pair's index, 0 or more.
      size: side of the square frames in pixels.
      photometric: change of light between the frames, blur, noise and compression; without them frame 2 shows the
        very same surfaces.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, index)))
    count = 1 + int(rng.integers(1, LAYERS))
    centre = np.array([(size - 1) / 2] * 2)
    kind = rng.random()
    slow, fast = kind < SLOW, kind > 1 - FAST
    spread = 0.5 if slow else 1.2
    camera = _camera(rng, size, centre, spread, sweeps=fast)
    motion = np.tile(np.eye(3), (LAYERS, 1, 1))
    waves = np.zeros((LAYERS, WAVES, 5))
    texture_map, shape_map = motion.copy(), motion.copy()
    places, radii = np.tile(centre, (LAYERS, 1)), np.full(LAYERS, size / 2)
    for layer in range(count):
        place = centre
        if layer:
            # Log-uniform sizes: as many small things as large ones; later layers, in front, are smaller.
            radius = size * math.exp(rng.uniform(math.log(0.05), math.log(0.5 - 0.02 * layer)))
            place = rng.uniform(-0.1, 1.1, 2) * size
            places[layer], radii[layer] = place, radius
            shape_map[layer] = _placement(rng, place, RADIUS / radius, aspect=0.8)
        zoom = math.exp(rng.uniform(math.log(0.35), math.log(1.3)))
        texture_map[layer] = _placement(rng, place + rng.uniform(-SIDE, SIDE, 2), zoom, aspect=0.3)
        own = _layer_motion(rng, size, place, spread, still=layer == 0 or rng.random() < 0.3)
        motion[layer] = own if layer and rng.random() < _ATTACHED else camera @ own
        if rng.random() < (0.35 if layer else 0.15):
            waves[layer] = _waves(rng, size)
    if slow:
        furthest = math.exp(rng.uniform(math.log(0.1), 0))
        slower = min(1.0, furthest / max(_reach(motion, waves, places, radii), 1e-6))
        motion = np.eye(3) + slower * (motion - np.eye(3))
        waves[:, :, :2] *= slower
    light, blur, block_offset = np.zeros((2, 3, 3)), np.zeros(2), np.zeros((2, 2), int)
    light[:, 0] = light[:, 2] = saturation = 1.0
    shutter = noise = quantisation = 0.0
    if photometric:
        contrast = math.exp(rng.normal(0.5, 0.4))
        flicker = 3.0 if rng.random() < 0.1 else 1.0
        light[:, 0] = contrast * np.exp(0.15 * rng.standard_normal(3) + flicker * 0.05 * rng.standard_normal((2, 1)))
        light[:, 1] = 128 * (1 - contrast) + rng.normal(0, 15) + 8 * rng.standard_normal(3)
        light[:, 1] += flicker * 4 * rng.standard_normal((2, 1))
        light[:, 2] = np.exp(0.15 * rng.standard_normal() + flicker * 0.04 * rng.standard_normal((2, 1)))
        shutter = rng.uniform(0.05, 0.3) if rng.random() < (0.5 if fast else 0.2) else 0.0
        noise = float(np.exp(rng.normal(0.7, 0.8))) if rng.random() < 0.6 else 0.0
        saturation = rng.uniform(0.1, 1)
        quantisation = math.exp(rng.uniform(math.log(0.1), math.log(2.5))) if rng.random() < 0.5 else 0.0
        block_offset = rng.integers(0, 8, (2, 2))  # a codec's blocks travel with what it predicts by motion
        if rng.random() < 0.5:
            block_offset[1] = block_offset[0]
        blur[:] = np.clip(rng.uniform(-0.6, 1.4) + 0.15 * rng.standard_normal(2), 0, 2)
        if rng.random() < _CLEAN:
            shutter = quantisation = 0.0
            saturation, noise, blur[:] = 1.0, min(noise, 1.0), 0
    colour = np.stack([np.exp(0.2 * rng.standard_normal((LAYERS, 3))), 20 * rng.standard_normal((LAYERS, 3))], axis=1)
    shape = rng.integers(1, SHAPES, LAYERS)
    shape[0] = 0
    scene = Scene(
        layers=np.array(count),
        texture=rng.integers(0, TEXTURES, LAYERS),
        shape=shape,
        texture_map=texture_map,
        shape_map=shape_map,
        colour=colour,
        motion=motion,
        waves=waves,
        shutter=np.array(shutter),
        light=light,
        noise=np.array(noise),
        noise_offset=rng.integers(0, SIDE, (2, 2)),
        saturation=np.array(saturation),
        quantisation=np.array(quantisation),
        block_offset=block_offset,
        blur=blur,
    )
    return Scene(*(x.astype(np.int32 if x.dtype.kind == "i" else np.float32) for x in scene))


def _reach(motion: np.ndarray, waves: np.ndarray, places: np.ndarray, radii: np.ndarray) -> float:
    """An upper bound of the displacement of any point of any layer, in pixels, while it is a few pixels."""
    corners = places[:, None] + radii[:, None, None] * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    points = np.concatenate([corners, np.ones((*corners.shape[:2], 1))], axis=-1)
    moved = np.einsum("lij,lpj->lpi", motion, points)
    lengths = np.linalg.norm(moved[..., :2] / moved[..., 2:] - corners, axis=-1)
    return float((lengths.max(axis=1) + np.linalg.norm(waves[:, :, :2], axis=-1).sum(axis=1)).max())


def _camera(rng: np.random.Generator, size: int, centre: np.ndarray, spread: float, *, sweeps: bool) -> np.ndarray:
    small = 0.05 if sweeps else 0.02
    if sweeps:
        shift = _in_any_direction(rng, size * math.exp(rng.uniform(math.log(0.05), math.log(0.3))))
    elif rng.random() < 0.2:  # on a tripod
        return np.eye(3)
    else:
        shift = _heavy(rng, 5.0, spread, 0.4 * size)
    return _homography(
        rng,
        centre,
        shift,
        turn=_often_small(rng, small),
        zoom=_often_small(rng, small),
        shear=0.005 * rng.standard_normal(3),
        # At the frame's edge a point moves by a pixel or two.
        perspective=rng.standard_normal(2) * _often_small(rng, 1.0) / (size / 2) ** 2,
    )


def _layer_motion(rng: np.random.Generator, size: int, place: np.ndarray, spread: float, *, still: bool) -> np.ndarray:
    if still:
        return np.eye(3)
    shift = _heavy(rng, 4.0, spread, 0.4 * size)
    return _homography(
        rng,
        place,
        shift,
        turn=_often_small(rng, 0.04),
        zoom=_often_small(rng, 0.03),
        shear=0.01 * rng.standard_normal(3),
        perspective=0.5 * rng.standard_normal(2) / (size / 2) ** 2,
    )


def _heavy(rng: np.random.Generator, median: float, spread: float, limit: float) -> np.ndarray:
    """A displacement in any direction, of log-normal length."""
    return _in_any_direction(rng, min(median * math.exp(spread * rng.standard_normal()), limit))


def _in_any_direction(rng: np.random.Generator, length: float) -> np.ndarray:
    angle = rng.uniform(0, 2 * math.pi)
    return length * np.array([math.cos(angle), math.sin(angle)])


def _often_small(rng: np.random.Generator, scale: float) -> float:
    """Normal of a scale that is itself log-normal: mostly small, sometimes several times `scale`."""
    return scale * rng.standard_normal() * math.exp(0.7 * rng.standard_normal())


def _homography(
    rng: np.random.Generator,
    about: np.ndarray,
    shift: np.ndarray,
    *,
    turn: float,
    zoom: float,
    shear: np.ndarray,
    perspective: np.ndarray,
) -> np.ndarray:
    turn, zoom = np.clip(turn, -0.35, 0.35), math.exp(np.clip(zoom, -0.25, 0.25))
    inner = np.eye(3)
    inner[:2, :2] = zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    inner[0, 1] += shear[0]
    inner[0, 0] += shear[1]
    inner[1, 1] += shear[2]
    # The plane must not turn its edge to the camera within two frames' reach.
    limit = 0.15 / (2 * np.abs(about).max() + 1)
    inner[2, :2] = np.clip(perspective, -limit, limit)
    to, back = np.eye(3), np.eye(3)
    to[:2, 2], back[:2, 2] = -about, about + shift
    return back @ inner @ to


def _placement(rng: np.random.Generator, place: np.ndarray, zoom: float, aspect: float) -> np.ndarray:
    """Affine map from frame pixels to pixels of a bank's picture whose centre lies at `place`."""
    angle, stretch = rng.uniform(0, 2 * math.pi), math.exp(rng.uniform(-aspect, aspect))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = zoom * np.diag([stretch, 1 / stretch]) @ turn
    result = np.eye(3)
    result[:2, :2] = linear
    result[:2, 2] = (SIDE - 1) / 2 - linear @ place
    return result


def _waves(rng: np.random.Generator, size: int) -> np.ndarray:
    waves = np.zeros((WAVES, 5))
    for wave in waves:
        length = size * rng.uniform(0.3, 1.3)
        angle = rng.uniform(0, 2 * math.pi)
        frequency = 2 * math.pi / length
        # Under a fold: the slope of both waves together stays below one half.
        wave[:2] = _heavy(rng, 1.0, 0.8, 0.25 / frequency)
        wave[2:4] = frequency * math.cos(angle), frequency * math.sin(angle)
        wave[4] = rng.uniform(0, 2 * math.pi)
    return waves
