"""One flow for all views of a clip: that of its whole frames, of which each view reads its crop."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from mgmae_jax.flow.clip_flow import grid_flow
from mgmae_jax.flow.raft import CELL
from mgmae_jax.ops.pairs import Direction, neighbour_pairs
from mgmae_jax.ops.sampling import hat_weights, read_rows_and_columns


def whole_frame_flow(
    params: Mapping[str, Any],
    frames: UInt8[Array, "T S S 3"],
    places: Float[Array, "views yx=2 line=2"],
    base: int | Int[Array, ""],
    *,
    iters: int,
    height: int,
    width: int,
    dtype: DTypeLike = jnp.float32,
    direction: Direction = "to_base",
    points: tuple[int, int] | None = None,
    scan: bool = False,
) -> Float[Array, "views P y x xy=2"]:
    """Flow of every view of one clip; RAFT runs once, whatever their number, and no gradient flows back from here.

    Args:
      params: see `clip_flow.clip_flow`, as for `iters`, `dtype`, `direction`, `points` and `scan`.
      frames: the whole frames, squeezed to squares whatever their shape; S is a multiple of 8 and at least 64.
      places: row, then column, of each view's crop: where it begins, and how long it is, in sides of the frame.
      base: the base frame of all views.
      height: of a view, in pixels.
      width: of a view, in pixels.

    Returns:
      In pixels of the views: [views, T - 1, H, W, 2], or [views, T - 1, h, w, 2] at points.
    """
    source, target = neighbour_pairs(frames.shape[0], base, direction)
    with jax.named_scope("raft"):
        low = grid_flow(params, frames, source, target, iters=iters, dtype=dtype, scan=scan)
        flow = jax.vmap(lambda place: read_crop(low, place, height, width, points))(places)
    return jax.lax.stop_gradient(flow)


def read_crop(
    low: Float[Array, "P h w xy=2"],
    place: Float[Array, "yx=2 line=2"],
    height: int,
    width: int,
    points: tuple[int, int] | None = None,
) -> Float[Array, "P y x xy=2"]:
    """Flow in pixels of a crop, of every pixel or at points, from that of the whole frame.

    Args:
      low: see `grid_flow`: the outermost cells' values belong to the centres of the frame's outermost pixels.
      place: see `whole_frame_flow`.
      height: of the crop as the view has it, in pixels.
      width: of the crop as the view has it, in pixels.
      points: h, w: read it at the centres of h x w equal cells of the crop instead.
    """
    rows, columns = points or (height, width)

    def weights(count: int, place: Float[Array, "line=2"], cells: int) -> Float[Array, "N cells"]:
        side = cells * CELL
        position = (place[0] + place[1] * ((jnp.arange(count, dtype=jnp.float32) + 0.5) / count)) * side - 0.5
        return hat_weights(jnp.clip(position, 0.0, side - 1.0) * ((cells - 1) / (side - 1)), cells)

    flow = read_rows_and_columns(low, weights(rows, place[0], low.shape[1]), weights(columns, place[1], low.shape[2]))
    scale = jnp.array([width / low.shape[2], height / low.shape[1]], jnp.float32) / place[::-1, 1]
    return flow * scale.reshape(1, 1, 1, 2)
