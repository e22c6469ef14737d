"""The visibility volume of a clip: the base frame's map, warped step by step to every other frame (Eq. 2; Table 1e)."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mgmae_jax.masking.occlusion import occluded
from mgmae_jax.masking.warp import warp_backward, warp_forward

Warp = Literal["backward", "forward"]
HoleFill = Literal["tube", "random", "invisible", "visible", "previous"]


def visibility_volume(
    base_map: Float[Array, "H W"],
    flow: Float[Array, "P H W xy=2"],
    base: int | Int[Array, ""],
    key: Key[Array, ""],
    *,
    warp: Warp = "backward",
    hole_fill: HoleFill = "tube",
    ratio: float = 0.9,
    zero_is_hole: bool = False,
    other: Float[Array, "P H W xy=2"] | None = None,
) -> Float[Array, "T H W"]:
    """Warps the base frame's map outwards, frame by frame, filling holes as it goes.

    Args:
      base_map: visibility in the base frame, any range from 0 up.
      flow: flow j is between frames j and j + 1; for backward warping it starts in the one further from the base frame,
        for forward warping, in the nearer one.
      base: index of the base frame, static or traced.
      key: the key for `hole_fill="random"`.
      warp: "backward" or "forward" (Table 1b).
      hole_fill: what a hole gets (Table 1e): "tube", the base map at that place; "previous", the map it was warped from
        at that place; "visible" and "invisible", the base map's maximum and 0; "random", one of these, invisible with
        probability `ratio`.
      ratio: the mask ratio.
      zero_is_hole: the released code's rule: a hole is where the warped value is exactly 0.
      other: for backward warping, the flow between the same frames the other way: what the neighbour does not show is
        then a hole as well, see `masking.occlusion`.

    Returns:
      [T, H, W].
    """
    pairs = flow.shape[0]
    # Outwards from the base frame: first the pairs before it, backwards in time, then those after it.
    step = jnp.arange(pairs, dtype=jnp.int32)
    order = jnp.where(step < base, base - 1 - step, step)
    restart = step == base
    highest = base_map.max()
    warp_one = {"backward": warp_backward, "forward": warp_forward}[warp]

    def advance(previous: Array, pair: tuple[Array, Array | None, Array, Array]) -> tuple[Array, Array]:
        flow, back, restart, step = pair
        previous = jnp.where(restart, base_map, previous)
        warped, hole = warp_one(previous, flow)
        hole = warped == 0 if zero_is_hole else hole
        hole = hole if back is None else hole | occluded(flow, back)
        if hole_fill == "tube":
            fill = base_map
        elif hole_fill == "previous":
            fill = previous
        elif hole_fill == "visible":
            fill = jnp.broadcast_to(highest, warped.shape)
        elif hole_fill == "invisible":
            fill = jnp.zeros_like(warped)
        else:
            shown = jax.random.bernoulli(jax.random.fold_in(key, step), 1 - ratio, warped.shape)
            fill = jnp.where(shown, highest, 0.0)
        warped = jnp.where(hole, fill, warped)
        return warped, warped

    _, outward = jax.lax.scan(advance, base_map, (flow[order], None if other is None else other[order], restart, step))
    # Pair j belongs to frame j before the base and to frame j + 1 after it.
    frame = jnp.where(order < base, order, order + 1)
    volume = jnp.zeros((pairs + 1, *base_map.shape)).at[frame].set(outward)
    return volume.at[jnp.asarray(base, np.int32)].set(base_map)
