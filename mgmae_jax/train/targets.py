"""What the decoder predicts for a hidden cube, and how a prediction is drawn."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from mgmae_jax.errors import ConfigError
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

Cubes = Float[Array, "*B N D"]


@dataclasses.dataclass(frozen=True)
class Target:
    """A reconstruction target.

    Args:
      values: (clips, uint8 or float32 in [0, 1]; tokens; grid) -> the values to predict for these tokens.
      width: how many values a token has.
      draw: (prediction, true cubes in [0, 1]) -> pixels in [0, 1].
      note: what a picture's caption says about the drawing.
    """

    values: Callable[[Shaped[Array, "B T H W 3"], Int[Array, "B K"], TokenGrid], Float[Array, "B K D"]]
    width: Callable[[TokenGrid], int]
    draw: Callable[[Cubes, Cubes], Cubes]
    note: str


def _of_cubes(function: Callable[[Cubes], Cubes], draw: Callable[[Cubes, Cubes], Cubes], note: str) -> Target:
    """A target that is a function of each cube's own pixels in [0, 1], with as many values."""

    def values(clips: Shaped[Array, "B T H W 3"], tokens: Int[Array, "B K"], grid: TokenGrid) -> Float[Array, "B K D"]:
        cubes = take_tokens(patchify(clips, grid), tokens)  # of bytes, as only these become floats
        return function(unit_range(cubes) if jnp.issubdtype(cubes.dtype, jnp.integer) else cubes)

    return Target(values, lambda grid: grid.cube_values, draw, note)


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
}


def find_target(name: str) -> Target:
    """The target called `name` (config.loss.target).

    Raises:
      ConfigError: there is no such target.
    """
    if name not in TARGETS:
        raise ConfigError("loss.target", name, "one of " + ", ".join(TARGETS))
    return TARGETS[name]
