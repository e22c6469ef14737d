"""The visibility volume without warping a map: points of every frame are followed along the flow to the base frame.

Warping a map backwards, frame by frame, gives a pixel the map's value at the end of its path (Eq. 2). Following the
paths of a few points of each token, and evaluating the mixture of Gaussians where they end, gives nearly the same
tokens without any array of pixels: flow is needed at the points only.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mgmae_jax.masking.base_map import gaussian_mixture_at
from mgmae_jax.masking.occlusion import disagree
from mgmae_jax.masking.volume import HoleFill
from mgmae_jax.ops.sampling import cell_coordinates, hat_weights, inside, pixel_grid

FILLS = ("tube", "invisible", "previous")
"""The rules of `HoleFill` that say what becomes of a path."""


def trajectory_volume(
    centres: Float[Array, "K yx=2"],
    flow: Float[Array, "P h w xy=2"],
    base: int | Int[Array, ""],
    *,
    height: int,
    width: int,
    sigma: float,
    hole_fill: HoleFill = "tube",
    other: Float[Array, "P h w xy=2"] | None = None,
) -> Float[Array, "T h w"]:
    """Visibility at points of every frame: the mixture of Gaussians where their paths to the base frame end.

    Args:
      centres: the Gaussians' centres in the base frame, in pixels.
      flow: flow j is between frames j and j + 1, from the one further from the base frame to the nearer one, in pixels
        of the frame; its values are at the centres of h x w equal cells, which are the points that are followed.
      base: index of the base frame, static or traced.
      height: H of the frames in pixels.
      width: W of the frames in pixels.
      sigma: the Gaussians' standard deviation in pixels.
      hole_fill: what happens to a path that leaves the frame: see `end_points`; with "invisible" its point's
        visibility is 0.
      other: see `end_points`.

    Returns:
      [T, h, w].
    """
    ends, seen = end_points(flow, base, height=height, width=width, hole_fill=hole_fill, other=other)
    visibility = gaussian_mixture_at(ends, centres, sigma)
    return visibility * seen if hole_fill == "invisible" else visibility


def end_points(
    flow: Float[Array, "P h w xy=2"],
    base: int | Int[Array, ""],
    *,
    height: int,
    width: int,
    hole_fill: HoleFill = "tube",
    other: Float[Array, "P h w xy=2"] | None = None,
) -> tuple[Float[Array, "T h w xy=2"], Float[Array, "T h w"]]:
    """Where the paths of the points of every frame end in the base frame.

    Outwards from the base frame, each frame's displacements are its flow plus those of its neighbour where the flow
    leads, read by products with bilinear weights: no gather.

    Args:
      flow: see `trajectory_volume`.
      base: index of the base frame, static or traced.
      height: H of the frames in pixels.
      width: W of the frames in pixels.
      hole_fill: a point whose flow leads out of the frame stays where it is: with "tube" and "invisible" its path ends
        there, with "previous" it continues from there in the neighbouring frame.
      other: the flow between the same frames the other way, at the same points: one that the neighbour does not show
        (`masking.occlusion`) then stays where it is as well.

    Returns:
      Positions (x, y) in pixels, and how much of what surrounds a point's path has not been lost, from 0 to 1.

    Raises:
      ValueError: the rule is not one of `FILLS`.
    """
    if hole_fill not in FILLS:
        raise ValueError(f"hole_fill={hole_fill!r}: give one of {', '.join(FILLS)}, which paths have")
    pairs, rows, columns, _ = flow.shape
    points = (pixel_grid(rows, columns) + 0.5) * _sides(width / columns, height / rows) - 0.5
    # Outwards from the base frame: first the pairs before it, backwards in time, then those after it.
    step = jnp.arange(pairs, dtype=jnp.int32)
    order = jnp.where(step < base, base - 1 - step, step)
    nothing = jnp.concatenate([jnp.zeros((rows, columns, 2)), jnp.ones((rows, columns, 1))], axis=-1)

    def advance(neighbour: Array, pair: tuple[Array, Array | None, Array]) -> tuple[Array, Array]:
        flow, back, restart = pair
        neighbour = jnp.where(restart, nothing, neighbour)
        there = points + flow
        down = hat_weights(cell_coordinates(there[..., 1], height, rows), rows)
        across = hat_weights(cell_coordinates(there[..., 0], width, columns), columns)

        def read(values: Float[Array, "h w C"]) -> Float[Array, "h w C"]:
            # One product with all rows, then a sum over columns.
            rows_read = jnp.einsum("yxh,hwc->yxwc", down, values, precision=jax.lax.Precision.HIGHEST)
            return (across[..., None] * rows_read).sum(axis=2)

        beside = read(neighbour)  # its values (displacement, seen) there
        moved = beside + jnp.concatenate([flow, jnp.zeros((rows, columns, 1))], axis=-1)
        stays = neighbour if hole_fill == "previous" else jnp.zeros_like(neighbour)
        goes_on = inside(there, height, width)
        goes_on = goes_on if back is None else goes_on & ~disagree(flow, read(back))
        path = jnp.where(goes_on[..., None], moved, stays)
        return path, path

    _, outward = jax.lax.scan(advance, nothing, (flow[order], None if other is None else other[order], step == base))
    # Pair j belongs to frame j before the base and to frame j + 1 after it.
    frame = jnp.where(order < base, order, order + 1)
    paths = jnp.zeros((pairs + 1, *nothing.shape)).at[frame].set(outward)
    paths = paths.at[jnp.asarray(base, np.int32)].set(nothing)
    return points[None] + paths[..., :2], paths[..., 2]


def _sides(x: float, y: float) -> Float[Array, "1 1 2"]:
    return jnp.array([x, y], jnp.float32).reshape(1, 1, 2)
