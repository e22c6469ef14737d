"""What a camera does to the light of a synthetic frame: tone, noise, compression and blur, in this order."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from mgmae_jax.datasets.flow_pairs.banks import SIDE
from mgmae_jax.datasets.flow_pairs.scene import Scene

BLOCK = 8
# ITU-T T.81, table K.1: the quantisation of luminance, which is used here for all three channels.
_JPEG_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
# Brightness and two colour differences.
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
_FROM_YCC = np.linalg.inv(_TO_YCC).astype(np.float32)


def develop(xp: ModuleType, scene: Scene, light: Any, noise: Any, frame: int) -> Any:
    """Turns the light on frame 0 or 1 of a scene, float `[H, W, 3]`, into whole values from 0 to 255.

    Args:
      xp: numpy or jax.numpy.
      scene: its fields from `light` on are used.
      light: the light, from 0 to 255.
      noise: uint8 `[SIDE, SIDE, 3]`.
      frame: 0 or 1.
    """
    size = light.shape[0]
    gain, offset, gamma = (scene.light[frame][part].reshape(1, 1, 3) for part in range(3))
    picture = light
    if xp is not np or (scene.light[frame] != _PLAIN).any():
        picture = 255 * (xp.clip(picture * gain + offset, 0, 255) / 255) ** gamma
    if xp is not np or scene.noise > 0:
        start = scene.noise_offset[frame]
        rows = (start[0] + xp.arange(size)) % SIDE
        columns = (start[1] + xp.arange(size)) % SIDE
        # Turned over for one frame, or the noise of both would match at the difference of their offsets.
        noise = noise[::-1, ::-1] if frame else noise
        # The bank's bytes are normal, of mean 127.5 and standard deviation 32.
        picture = picture + (scene.noise / 32) * (noise[rows][:, columns].astype(np.float32) - 127.5)
    if xp is not np or scene.saturation < 1 or scene.quantisation > 0:
        picture = _encoded(picture, scene, frame, xp)
    # Last, as videos are enlarged after they are decoded.
    for strength in (xp.minimum(scene.blur[frame], 1), xp.maximum(scene.blur[frame] - 1, 0)):
        if xp is not np or strength > 0:
            picture = _blurred(_blurred(picture, strength, xp), strength, xp)
    return xp.round(xp.clip(picture, 0, 255))


_PLAIN = np.array([[1], [0], [1]], np.float32)


def _blurred(picture: Any, strength: Any, xp: ModuleType) -> Any:
    for axis in range(2):
        last = picture.shape[axis] - 1
        before = xp.concatenate([_part(picture, axis, 0, 1), _part(picture, axis, 0, last)], axis=axis)
        after = xp.concatenate([_part(picture, axis, 1, None), _part(picture, axis, last, None)], axis=axis)
        picture = picture + strength * 0.25 * (before + after - 2 * picture)
    return picture


def _part(picture: Any, axis: int, start: int, stop: int | None) -> Any:
    return picture[start:stop] if axis == 0 else picture[:, start:stop]


def _encoded(picture: Any, scene: Scene, frame: int, xp: ModuleType) -> Any:
    """What a codec makes of a picture: faint colours at half the resolution, and blocks of few coefficients."""
    start = scene.block_offset[frame]
    ycc = xp.roll(picture @ _TO_YCC.T, -start, axis=(0, 1))
    brightness, colours = ycc[..., :1], ycc[..., 1:]
    ycc = xp.concatenate([brightness, scene.saturation * _at_half_resolution(colours, xp)], axis=-1)
    if xp is not np or scene.quantisation > 0:
        ycc = xp.where(scene.quantisation > 0, _quantised(ycc, scene.quantisation, xp), ycc)
    return xp.roll(ycc, start, axis=(0, 1)) @ _FROM_YCC.T


def _at_half_resolution(picture: Any, xp: ModuleType) -> Any:
    height, width, channels = picture.shape
    mean = picture.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3), keepdims=True)
    return xp.broadcast_to(mean, (height // 2, 2, width // 2, 2, channels)).reshape(picture.shape)


def _quantised(ycc: Any, factor: Any, xp: ModuleType) -> Any:
    """Rounds the cosine transform of each 8x8 block to multiples of JPEG's table times `factor`."""
    cosine = _cosine_matrix()
    step = xp.maximum(factor * _JPEG_TABLE[None, :, None, :, None], 1e-3)
    height, width, _ = ycc.shape
    blocks = ycc.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    blocks = xp.einsum("ua,iajbc,vb->iujvc", cosine, blocks, cosine, optimize="optimal")
    blocks = xp.round(blocks / step) * step
    blocks = xp.einsum("ua,iujvc,vb->iajbc", cosine, blocks, cosine, optimize="optimal")
    return blocks.reshape(height, width, 3)


def _cosine_matrix() -> np.ndarray:
    frequency, position = np.arange(BLOCK)[:, None], np.arange(BLOCK)[None]
    matrix = np.cos(np.pi * (position + 0.5) * frequency / BLOCK) * np.sqrt(2 / BLOCK)
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)
