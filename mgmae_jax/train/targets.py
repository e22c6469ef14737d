"""What the decoder predicts for a hidden cube, and how a prediction is drawn."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.hog import draw_hog, hog_values, token_hog
from mgmae_jax.ops.tokens import (
    TokenGrid,
    normalise_cubes,
    normalise_pixels,
    patchify,
    restore_cubes,
    restore_pixels,
    take_tokens,
    unit_range,
)

Cubes = Float[Array, "*B N C"]


@dataclasses.dataclass(frozen=True)
class Target:
    """A reconstruction target.

    Args:
      values: (clips, uint8 or float32 in [0, 1]; tokens; grid) -> the values to predict for these tokens.
      width: how many values a token has; raises ConfigError for a grid that the target cannot work with.
      draw: (prediction, true cubes in [0, 1], grid) -> pixels in [0, 1].
      note: what a picture's caption says about the drawing.
      of_own_pixels: whether a token's values depend on nothing but its own pixels.
    """

    values: Callable[[Shaped[Array, "B T H W 3"], Int[Array, "B K"], TokenGrid], Float[Array, "B K D"]]
    width: Callable[[TokenGrid], int]
    draw: Callable[[Float[Array, "*B N D"], Cubes, TokenGrid], Cubes]
    note: str
    of_own_pixels: bool = True


def _of_cubes(function: Callable[[Cubes], Cubes], draw: Callable[[Cubes, Cubes], Cubes], note: str) -> Target:
    """A target that is a function of each cube's own pixels in [0, 1], with as many values."""

    def values(clips: Shaped[Array, "B T H W 3"], tokens: Int[Array, "B K"], grid: TokenGrid) -> Float[Array, "B K D"]:
        cubes = take_tokens(patchify(clips, grid), tokens)  # of bytes, as only these become floats
        return function(_in_unit_range(cubes))

    return Target(values, lambda grid: grid.cube_values, lambda prediction, cubes, _: draw(prediction, cubes), note)


def _in_unit_range(pixels: Shaped[Array, "*S"]) -> Float[Array, "*S"]:
    """Pixels in [0, 1], of bytes or of such."""
    return unit_range(pixels) if jnp.issubdtype(pixels.dtype, jnp.integer) else pixels


def _hog(clips: Shaped[Array, "B T H W 3"], tokens: Int[Array, "B K"], grid: TokenGrid) -> Float[Array, "B K D"]:
    """Of whole frames, as a gradient at the border of a cube reads its neighbours."""
    return take_tokens(token_hog(_in_unit_range(clips), grid), tokens)


def _draw_pixels(prediction: Cubes, cubes: Cubes) -> Cubes:
    return jnp.clip(restore_pixels(prediction), 0.0, 1.0)


TARGETS = {
    # Each cube and channel with mean 0 and variance 1 (section 3.1): the paper's.
    "normalised": _of_cubes(
        normalise_cubes,
        restore_cubes,
        "hidden cubes are predicted up to their mean and variance, which are the true ones.",
    ),
    # By ImageNet's mean and standard deviation, as the network's input is.
    "pixels": _of_cubes(normalise_pixels, _draw_pixels, "hidden cubes show only the network's prediction."),
    # Orientations of gradients (MaskFeat).
    "hog": Target(
        _hog,
        hog_values,
        lambda prediction, cubes, grid: draw_hog(prediction, grid),
        "hidden cubes show the predicted HOG: lines along edges, in the colour of their channel.",
        of_own_pixels=False,
    ),
}


def find_target(name: str) -> Target:
    """The target called `name` (config.loss.target).

    Raises:
      ConfigError: there is no such target.
    """
    if name not in TARGETS:
        raise ConfigError("loss.target", name, "one of " + ", ".join(TARGETS))
    return TARGETS[name]
