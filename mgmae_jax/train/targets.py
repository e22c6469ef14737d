"""What the decoder predicts for a hidden cube, and how a prediction is drawn."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.tokens import normalise_cubes, normalise_pixels, restore_cubes, restore_pixels

Cubes = Float[Array, "*B N D"]


@dataclasses.dataclass(frozen=True)
class Target:
    """A reconstruction target.

    Args:
      values: cube pixels in [0, 1] -> the values to predict.
      draw: (prediction, true cubes in [0, 1]) -> pixels in [0, 1].
      note: what a picture's caption says about the drawing.
    """

    values: Callable[[Cubes], Cubes]
    draw: Callable[[Cubes, Cubes], Cubes]
    note: str


def _draw_pixels(prediction: Cubes, cubes: Cubes) -> Cubes:
    return jnp.clip(restore_pixels(prediction), 0.0, 1.0)


TARGETS = {
    # Each cube and channel with mean 0 and variance 1 (section 3.1): the paper's.
    "normalised": Target(
        normalise_cubes,
        restore_cubes,
        "hidden cubes are predicted up to their mean and variance, which are the true ones.",
    ),
    # By ImageNet's mean and standard deviation, as the network's input is.
    "pixels": Target(normalise_pixels, _draw_pixels, "hidden cubes show only the network's prediction."),
}


def find_target(name: str) -> Target:
    """The target called `name` (config.loss.target).

    Raises:
      ConfigError: there is no such target.
    """
    if name not in TARGETS:
        raise ConfigError("loss.target", name, "one of " + ", ".join(TARGETS))
    return TARGETS[name]
