"""Frame pairs with exact flow from scenes of procedural motion: the training data of the flow network.

The pair of an index is a pure function of (seed, index, size). It is drawn on the host, by numpy and OpenCV, in threads
that do not use JAX, or on a device (`train.flow_pairs`). Both run the same program, the one below.

    pair = draw_pair(make_banks(0), sample_scene(seed=0, index=7, size=128), 128)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mgmae_jax.datasets.flow_pairs.banks import Banks
from mgmae_jax.datasets.flow_pairs.camera import develop
from mgmae_jax.datasets.flow_pairs.scene import WAVES, Scene

EXPOSURES = (-0.5, -0.25, 0.0, 0.25, 0.5)
"""When a frame with motion blur is sampled, as fractions of its shutter's open time."""


class Pair(NamedTuple):
    """Two frames and what moved.

    Args:
      image1: uint8 `[H, W, 3]`, RGB.
      image2: uint8 `[H, W, 3]`.
      flow: float32 `[H, W, 2]`, (x, y) in pixels from frame 1 to frame 2, true also where the point is hidden there.
      occluded: bool `[H, W]`, whether the point of frame 1 is hidden in frame 2 or outside it; None if not asked for.
    """

    image1: Any
    image2: Any
    flow: Any
    occluded: Any


@dataclasses.dataclass(frozen=True)
class Canvas:
    """How arrays are made and pictures sampled: with numpy and OpenCV, or with JAX.

    Args:
      xp: numpy or jax.numpy.
      texture: a texture, repeated, at positions: (index, x, y) -> float `[H, W, 3]`, 0 to 255.
      coverage: an outline, zero outside, at positions: (index, x, y) -> float `[H, W]`, 0 to 1.
      paint: lays a colour over a picture: (picture, coverage, x, y, colour at (x, y)) -> picture.
      noise: uint8 `[SIDE, SIDE, 3]`, a source of noise that repeats.
      over_layers: runs (carry, layer number) -> carry for each of `count` layers: (function, carry, count) -> carry.
      moments: when a frame is sampled, from its shutter: some of `EXPOSURES`.
    """

    xp: ModuleType
    texture: Callable[[Any, Any, Any], Any]
    coverage: Callable[[Any, Any, Any], Any]
    paint: Callable[[Any, Any, Any, Any, Callable[[Any, Any], Any]], Any]
    noise: Any
    over_layers: Callable[[Callable[[Any, Any], Any], Any, Any], Any]
    moments: Callable[[Any], Sequence[float]]


def draw(canvas: Canvas, scene: Scene, size: int, *, occlusion: bool) -> Pair:
    """Draws a scene as two frames of `size` x `size` pixels; the occlusion costs as much as a frame."""
    xp = canvas.xp
    axis = xp.arange(size, dtype=np.float32)
    x, y = xp.broadcast_to(axis[None], (size, size)), xp.broadcast_to(axis[:, None], (size, size))
    image1, image2 = (
        develop(xp, scene, _exposed(canvas, scene, x, y, frame), canvas.noise, frame).astype(np.uint8)
        for frame in range(2)
    )
    flow_x, flow_y, front = _flow(canvas, scene, x, y)
    occluded = None
    if occlusion:
        landing_x, landing_y = x + flow_x, y + flow_y
        outside = (landing_x < 0) | (landing_x > size - 1) | (landing_y < 0) | (landing_y > size - 1)
        occluded = outside | _hidden(canvas, scene, landing_x, landing_y, front)
    return Pair(image1, image2, xp.stack([flow_x, flow_y], axis=-1), occluded)


def _exposed(canvas: Canvas, scene: Scene, x: Any, y: Any, frame: int) -> Any:
    """The light that falls on one frame, float `[H, W, 3]`: the mean over the moments that it is exposed."""
    xp = canvas.xp
    eye = xp.eye(3, dtype=np.float32)[None]
    pictures = []
    for moment in canvas.moments(scene.shutter):
        # Frames 1 and 2 are times 0 and 1; between and around them a layer's matrix changes linearly.
        inverse = _inverse(xp, eye + (frame + scene.shutter * moment) * (scene.motion - eye))

        def cover(picture: Any, layer: Any, inverse: Any = inverse) -> Any:
            px, py = _project(inverse[layer], x, y)
            if frame == 0:
                px, py = _displaced(xp, scene.waves[layer], px, py)

            def colour(px: Any, py: Any) -> Any:
                texture = canvas.texture(scene.texture[layer], *_affine(scene.texture_map[layer], px, py))
                gain, offset = scene.colour[layer][0].reshape(1, 1, 3), scene.colour[layer][1].reshape(1, 1, 3)
                return xp.clip(texture * gain + offset, 0, 255)

            return canvas.paint(picture, _coverage(canvas, scene, layer, px, py), px, py, colour)

        pictures.append(canvas.over_layers(cover, xp.zeros((*x.shape, 3), np.float32), scene.layers))
    return sum(pictures[1:], pictures[0]) * np.float32(1 / len(pictures))


def _flow(canvas: Canvas, scene: Scene, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Flow x and y of the layer in front at each pixel of frame 1, and that layer's number."""
    xp = canvas.xp

    def cover(carry: tuple[Any, Any, Any], layer: Any) -> tuple[Any, ...]:
        px, py = _displaced(xp, scene.waves[layer], x, y)
        covers = _coverage(canvas, scene, layer, px, py) > 0.5
        qx, qy = _project(scene.motion[layer], px, py)
        new = (qx - x, qy - y, xp.zeros_like(carry[2]) + layer)
        return tuple(xp.where(covers, a, b) for a, b in zip(new, carry, strict=True))

    zero = xp.zeros(x.shape, np.float32)
    return canvas.over_layers(cover, (zero, zero, xp.zeros(x.shape, np.int32)), scene.layers)


def _hidden(canvas: Canvas, scene: Scene, x: Any, y: Any, front: Any) -> Any:
    """Whether a layer in front of layer `front` covers position (x, y) of frame 2."""
    inverse = _inverse(canvas.xp, scene.motion)

    def cover(hidden: Any, layer: Any) -> Any:
        return hidden | ((_coverage(canvas, scene, layer, *_project(inverse[layer], x, y)) > 0.5) & (layer > front))

    return canvas.over_layers(cover, canvas.xp.zeros(x.shape, bool), scene.layers)


def _coverage(canvas: Canvas, scene: Scene, layer: Any, x: Any, y: Any) -> Any:
    return canvas.coverage(scene.shape[layer], *_affine(scene.shape_map[layer], x, y))


def _affine(matrix: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return tuple(matrix[row][0] * x + (matrix[row][1] * y + matrix[row][2]) for row in range(2))


def _project(matrix: Any, x: Any, y: Any) -> tuple[Any, Any]:
    scale = 1 / (matrix[2][0] * x + (matrix[2][1] * y + matrix[2][2]))
    px, py = _affine(matrix, x, y)
    return px * scale, py * scale


def _displaced(xp: ModuleType, waves: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Points after a layer's non-rigid displacement d."""
    if xp is np and not waves[:, :2].any():
        return x, y
    dx, dy = x, y
    for number in range(WAVES):
        wave = waves[number]
        height = xp.sin(wave[2] * x + (wave[3] * y + wave[4]))
        dx, dy = dx + wave[0] * height, dy + wave[1] * height
    return dx, dy


def _inverse(xp: ModuleType, matrices: Any) -> Any:
    """Inverses `[LAYERS, 3, 3]` of homographies, up to scale: the transposed cofactors."""
    first, second, third = matrices[:, 0], matrices[:, 1], matrices[:, 2]
    return xp.stack([xp.cross(second, third), xp.cross(third, first), xp.cross(first, second)], axis=-1)


def draw_pair(banks: Banks, scene: Scene, size: int, *, occlusion: bool = True) -> Pair:
    """Draws a scene on the host.

    Args:
      banks: the material.
      scene: from `sample_scene`, with the same size.
      size: side of the frames in pixels; 8 divides it.
      occlusion: whether to work out what is hidden.

    Returns:
      The pair, numpy arrays.
    """
    import cv2  # so that a machine that draws on its accelerator does not need it

    def texture(index: np.integer, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return cv2.remap(banks.textures[index], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float32)

    def coverage(index: np.integer, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if index == 0:
            return np.ones(x.shape, np.float32)
        sampled = cv2.remap(banks.shapes[index], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return sampled * np.float32(1 / 255)

    def over_layers(function: Callable[[Any, Any], Any], carry: Any, count: np.ndarray) -> Any:
        for layer in range(int(count)):
            carry = function(carry, layer)
        return carry

    def moments(shutter: np.ndarray) -> Sequence[float]:
        return EXPOSURES if shutter > 0 else (0.0,)

    def paint(
        picture: np.ndarray, alpha: np.ndarray, x: np.ndarray, y: np.ndarray, colour: Callable[[Any, Any], Any]
    ) -> np.ndarray:
        # In place, and only where the layer is: most shapes are small.
        rows, columns = (np.flatnonzero(alpha.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            part = picture[window]
            part += alpha[window][..., None] * (colour(x[window], y[window]) - part)
        return picture

    canvas = Canvas(np, texture, coverage, paint, banks.noise, over_layers, moments)
    return draw(canvas, scene, size, occlusion=occlusion)
