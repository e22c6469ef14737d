"""Clips as tokens: the grid, the split into visible and target, and cubes of pixels."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt8

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True)
class TokenGrid:
    """The token grid of a clip: cubes of `tubelet` x `patch` x `patch` pixels, counted (tubelet, row, column)
    row-major.

    Args:
      frames: T, a multiple of `tubelet`.
      height: H in pixels, a multiple of `patch`.
      width: W in pixels, a multiple of `patch`.
      tubelet: frames per token.
      patch: side of a token, in pixels.

    Raises:
      ConfigError: a length is below 1 or not divisible.
    """

    frames: int
    height: int
    width: int
    tubelet: int = 2
    patch: int = 16

    def __post_init__(self) -> None:
        for field, length in (("tubelet", self.tubelet), ("patch", self.patch)):
            if length < 1:
                raise ConfigError(f"model.{field}", length, "1 or more")
        if self.frames < self.tubelet or self.frames % self.tubelet:
            raise ConfigError("clip.frames", self.frames, f"a multiple of model.tubelet={self.tubelet}")
        for side in (self.height, self.width):
            if side < self.patch or side % self.patch:
                raise ConfigError("clip.size", side, f"a multiple of model.patch={self.patch}")

    @property
    def tubelets(self) -> int:
        """Tokens along time, t."""
        return self.frames // self.tubelet

    @property
    def rows(self) -> int:
        """Tokens down, h."""
        return self.height // self.patch

    @property
    def columns(self) -> int:
        """Tokens across, w."""
        return self.width // self.patch

    @property
    def per_tubelet(self) -> int:
        """Tokens of one tubelet, h * w."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """All tokens, N = t * h * w."""
        return self.tubelets * self.per_tubelet

    @property
    def cube_values(self) -> int:
        """Number of values in one RGB cube."""
        return self.tubelet * self.patch**2 * 3


class TokenSplit(NamedTuple):
    """Which tokens of a clip are visible and which are to be predicted, as sorted indices; a token may be both."""

    visible: Int[Array, "V"]
    target: Int[Array, "K"]


def patchify(clip: Shaped[Array, "*B T H W 3"], grid: TokenGrid) -> Shaped[Array, "*B N D"]:
    """Cuts clips into cubes: tokens by (tubelet, row, column), values by (frame, row, column, channel)."""
    lead = clip.shape[:-4]
    cut = (grid.tubelets, grid.tubelet, grid.rows, grid.patch, grid.columns, grid.patch, 3)
    n = len(lead)
    order = (*range(n), *(n + axis for axis in (0, 2, 4, 1, 3, 5, 6)))
    return clip.reshape(*lead, *cut).transpose(order).reshape(*lead, grid.tokens, grid.cube_values)


def unpatchify(cubes: Shaped[Array, "*B N D"], grid: TokenGrid) -> Shaped[Array, "*B T H W 3"]:
    """Reassembles cubes into clips; the inverse of `patchify`."""
    lead = cubes.shape[:-2]
    cut = (grid.tubelets, grid.rows, grid.columns, grid.tubelet, grid.patch, grid.patch, 3)
    n = len(lead)
    order = (*range(n), *(n + axis for axis in (0, 3, 1, 4, 2, 5, 6)))
    return cubes.reshape(*lead, *cut).transpose(order).reshape(*lead, grid.frames, grid.height, grid.width, 3)


def unit_range(pixels: UInt8[Array, "*S"]) -> Float[Array, "*S"]:
    """Bytes to [0, 1], float32."""
    return pixels.astype(jnp.float32) * np.float32(1 / 255)


def normalise_pixels(cubes: Float[Array, "*B N D"]) -> Float[Array, "*B N D"]:
    """Cube pixels in [0, 1] to the network's input: ImageNet's mean and standard deviation per channel."""
    mean, std = _imagenet_statistics(cubes)
    return (cubes - mean) * (1 / std)


def restore_pixels(cubes: Float[Array, "*B N D"]) -> Float[Array, "*B N D"]:
    """The inverse of `normalise_pixels`; not clipped."""
    mean, std = _imagenet_statistics(cubes)
    return cubes * std + mean


def _imagenet_statistics(cubes: Float[Array, "*B N D"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every value of a cube, with the rank of the cubes."""
    shape = (1,) * (cubes.ndim - 1) + (-1,)
    repeats = cubes.shape[-1] // 3
    return np.tile(IMAGENET_MEAN, repeats).reshape(shape), np.tile(IMAGENET_STD, repeats).reshape(shape)


def cube_statistics(cubes: Float[Array, "*B N D"]) -> tuple[Float[Array, "*B N 1 3"], Float[Array, "*B N 1 3"]]:
    """Mean and scale of every cube and channel: the scale is sqrt(unbiased variance) + 1e-6."""
    pixels = cubes.reshape(*cubes.shape[:-1], -1, 3)
    scale = jnp.sqrt(jnp.var(pixels, axis=-2, keepdims=True, ddof=1)) + 1e-6
    return pixels.mean(axis=-2, keepdims=True), scale


def normalise_cubes(cubes: Float[Array, "*B N D"]) -> Float[Array, "*B N D"]:
    """The target: cube pixels in [0, 1], each cube and channel brought to mean 0 and variance 1 (section 3.1)."""
    mean, scale = cube_statistics(cubes)
    pixels = cubes.reshape(*cubes.shape[:-1], -1, 3)
    return ((pixels - mean) / scale).reshape(cubes.shape)


def restore_cubes(target: Float[Array, "*B N D"], cubes: Float[Array, "*B N D"]) -> Float[Array, "*B N D"]:
    """Pixels in [0, 1] of a (predicted) target, with the mean and scale of the true `cubes`; clipped to the range."""
    mean, scale = cube_statistics(cubes)
    pixels = target.reshape(*target.shape[:-1], -1, 3) * scale + mean
    return jnp.clip(pixels, 0.0, 1.0).reshape(target.shape)


def take_tokens(tokens: Shaped[Array, "B N D"], indices: Shaped[Array, "B K"]) -> Shaped[Array, "B K D"]:
    """The rows `indices` of each example's tokens."""

    def take(rows: Array, index: Array) -> Array:
        return rows[index]

    return jax.vmap(take)(tokens, indices)
