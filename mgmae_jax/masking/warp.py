"""Carrying a visibility map from one frame to its neighbour along the flow (section 3.2; Table 1b)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mgmae_jax.ops.sampling import inside, pixel_grid, sample_bilinear


def warp_backward(
    visibility: Float[Array, "H W"], flow: Float[Array, "H W xy=2"]
) -> tuple[Float[Array, "H W"], Bool[Array, "H W"]]:
    """Pulls a visibility map one frame away from the base frame (Eq. 2, phi_B).

    Pixel p of the result is `visibility` at p + flow(p): the flow starts in the frame that the map is made for and ends
    in the frame that it is taken from.

    Args:
      visibility: map of the neighbour nearer the base frame, any range.
      flow: displacement in pixels towards that neighbour, x then y.

    Returns:
      The warped map, and a mask that is True where the source lies outside the frame (a hole). Beyond the border the
      map falls to zero within a pixel.
    """
    height, width = visibility.shape
    source = pixel_grid(height, width) + flow
    return sample_bilinear(visibility, source), ~inside(source, height, width)


def warp_forward(
    visibility: Float[Array, "H W"], flow: Float[Array, "H W xy=2"]
) -> tuple[Float[Array, "H W"], Bool[Array, "H W"]]:
    """Pushes a visibility map one frame away from the base frame (phi_F).

    Each pixel lands on the four around p + flow(p).

    Args:
      visibility: map of the neighbour nearer the base frame, any range.
      flow: displacement in pixels from that neighbour to the frame that the map is made for, x then y.

    Returns:
      The mean of what landed on each pixel, by bilinear weight, and a mask that is True where nothing landed (a hole;
      the map is zero there).
    """
    height, width = visibility.shape
    target = pixel_grid(height, width) + flow
    corner = jnp.floor(target)
    landed = jnp.zeros((height, width))
    weight = jnp.zeros((height, width))
    for dy in (0, 1):
        for dx in (0, 1):
            cell = corner + jnp.array([dx, dy], jnp.float32).reshape(1, 1, 2)
            share = jnp.prod(1.0 - jnp.abs(target - cell), axis=-1)
            # Flow may be huge: clip it before the cast, whose result is undefined for a float out of range.
            cell = jnp.clip(cell, -1.0, jnp.array([width, height], jnp.float32).reshape(1, 1, 2)).astype(jnp.int32)
            # "drop" ignores indices past the end but would wrap -1.
            row = jnp.where(cell[..., 1] < 0, height, cell[..., 1])
            column = jnp.where(cell[..., 0] < 0, width, cell[..., 0])
            landed = landed.at[row, column].add(share * visibility, mode="drop")
            weight = weight.at[row, column].add(share, mode="drop")
    # Rounding leaves shares that are not exactly zero on pixels that nothing reaches.
    hole = weight < 1e-6
    return jnp.where(hole, 0.0, landed / jnp.where(hole, 1.0, weight)), hole
