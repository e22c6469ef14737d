"""Synthetic pairs drawn on the device, inside the train step: only a scene's numbers are transferred."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mgmae_jax.datasets.flow_pairs.banks import SIDE, Banks
from mgmae_jax.datasets.flow_pairs.pair import EXPOSURES, Canvas, Pair, draw
from mgmae_jax.datasets.flow_pairs.scene import LAYERS, Scene


def bank_arrays(banks: Banks) -> dict[str, np.ndarray]:
    """The material in the form that `draw_pairs` takes."""
    return {"textures": banks.textures, "shapes": banks.shapes, "noise": banks.noise}


def draw_pairs(banks: Mapping[str, Array], scenes: Scene, size: int, *, occlusion: bool = False) -> Pair:
    """Draws a batch of scenes, as `pair.draw_pair` draws one.

    Args:
      banks: the material, from `bank_arrays`.
      scenes: scenes with a leading batch axis.
      size: side of the frames in pixels; 8 divides it.
      occlusion: whether to work out what is hidden.

    Returns:
      The pairs, with a leading batch axis.
    """
    canvas = Canvas(
        jnp,
        lambda index, x, y: _bilinear(banks["textures"], index, x, y, wrap=True),
        lambda index, x, y: jnp.where(index == 0, 1.0, _bilinear(banks["shapes"], index, x, y, wrap=False) / 255),
        lambda picture, alpha, x, y, colour: picture + alpha[..., None] * (colour(x, y) - picture),
        banks["noise"],
        _over_layers,
        _moments,
    )
    return jax.vmap(lambda scene: draw(canvas, scene, size, occlusion=occlusion))(scenes)


def _bilinear(bank: Array, index: Array, x: Array, y: Array, *, wrap: bool) -> Array:
    left, top = jnp.floor(x), jnp.floor(y)
    corners = []
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = left.astype(jnp.int32) + dx, top.astype(jnp.int32) + dy
            weight = (1 - jnp.abs(x - left - dx)) * (1 - jnp.abs(y - top - dy))
            if not wrap:
                weight = jnp.where((column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE), weight, 0)
            values = bank[index, row % SIDE, column % SIDE].astype(jnp.float32)
            corners.append(values * weight.reshape(weight.shape + (1,) * (values.ndim - 2)))
    return sum(corners[1:], corners[0])


def _over_layers(function: Callable[[Any, Any], Any], carry: Any, count: Array) -> Any:
    def body(layer: Array, carry: Any) -> Any:
        return jax.tree.map(lambda new, old: jnp.where(layer < count, new, old), function(carry, layer), carry)

    return jax.lax.fori_loop(0, LAYERS, body, carry)


def _moments(shutter: Array) -> Sequence[float]:
    return EXPOSURES
