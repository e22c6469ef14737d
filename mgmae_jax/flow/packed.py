"""Flow that comes with the batch in eight bits, of the points of a coarse grid: read inside the step."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from mgmae_jax.ops.sampling import hat_weights, read_rows_and_columns


class PackedFlow(NamedTuple):
    """The flow of one clip on the grid of its video, made by `data.stored_clips`.

    Attributes:
      values: of the g x g points of the grid that the crop lies among; before a random base frame is drawn [2, P, g, g,
        2], both directions.
      span: the lowest number of each pair, and the unit of its values, x and y; in steps of the grid.
      place: row, then column: the index among these points at fraction f of the crop is place[0] + place[1] * f.
    """

    values: UInt8[Array, "*P g g xy=2"]
    span: Float[Array, "*P range=2 xy=2"]
    place: Float[Array, "yx=2 line=2"]


def given_flow(batch: Mapping[str, Any]) -> Any:
    """The flow that came with a batch, or with one clip: in pixels, a `PackedFlow` if it was stored, or None.

    Args:
      batch: what `data.pretrain_clips` makes: "flow", and with "flow_span" and "flow_place" stored flow.
    """
    if "flow_span" in batch:
        return packed((batch["flow"], batch["flow_span"], batch["flow_place"]))
    return batch.get("flow")


def packed(parts: Sequence[Any]) -> PackedFlow:
    """The fields of a `data.stored_clips.PackedClipFlow`, as the step takes them."""
    values, span, place = parts
    return PackedFlow(values, span, place)


def one_way(flow: Float[Any, "2 P h w xy=2"] | PackedFlow, forwards: Bool[Any, "P"]) -> Array | PackedFlow:
    """Of flow in both directions, for each pair that forwards in time or the other."""

    def choose(both: Any) -> Array:
        return jnp.where(forwards.reshape(-1, *(1,) * (both.ndim - 2)), both[0], both[1])

    if isinstance(flow, PackedFlow):
        return flow._replace(values=choose(flow.values), span=choose(flow.span))
    return choose(flow)


def read_packed(
    given: PackedFlow, height: int, width: int, points: tuple[int, int] | None = None
) -> Float[Array, "P y x xy=2"]:
    """Flow in pixels of the crop, of every pixel or at points: bilinear between the points of the grid.

    Args:
      given: the flow of one clip, in one direction.
      height: of the crop as the clip has it, in pixels.
      width: of the crop as the clip has it, in pixels.
      points: h, w: read it at the centres of h x w equal cells of the crop instead.
    """
    given = PackedFlow(*map(jnp.asarray, given))
    rows, columns = points or (height, width)
    side = given.values.shape[-2]

    def weights(count: int, place: Float[Array, "line=2"]) -> Float[Array, "N g"]:
        position = place[0] + place[1] * ((jnp.arange(count, dtype=jnp.float32) + 0.5) / count)
        return hat_weights(jnp.clip(position, 0.0, side - 1.0), side)

    lowest, unit = given.span[:, 0], given.span[:, 1]
    flow = given.values.astype(jnp.float32) * unit[:, None, None] + lowest[:, None, None]
    flow = read_rows_and_columns(flow, weights(rows, given.place[0]), weights(columns, given.place[1]))
    scale = jnp.array([width, height], jnp.float32) / given.place[::-1, 1]
    return flow * scale.reshape(1, 1, 1, 2)
