"""Flow of every frame of a clip towards its neighbour nearer the base frame (Eq. 1), by RAFT-small inside the step."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.raft import CELL, RaftSmall, upsample_flow
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.ops.pairs import Direction, neighbour_pairs
from mgmae_jax.ops.sampling import hat_weights, read_rows_and_columns
from mgmae_jax.ops.tokens import TokenGrid

MIN_SIDE = 64
"""Smallest side of a frame, in pixels, that RAFT's four-level pyramid can work on."""

# One 224x224 frame: larger parts do not fit the cache of one core.
_CELLS_PER_PART = 28 * 28
# Of all frames of the clips that a TPU works on at once: what they take on the way stays in memory on the chip.
_CELLS_ON_CHIP = 32 * 28 * 28


def clip_flow(
    params: Mapping[str, Any],
    clip: UInt8[Array, "T H W 3"],
    base: int | Int[Array, ""],
    *,
    iters: int = 6,
    size: int | None = None,
    dtype: DTypeLike = jnp.float32,
    direction: Direction = "to_base",
    points: tuple[int, int] | None = None,
    both_ways: bool = False,
    scan: bool = False,
) -> Float[Array, "P y x xy=2"]:
    """Flow of the T - 1 frames other than the base, each towards its neighbour nearer the base.

    Every frame is encoded once, and no gradient flows back from here.

    Args:
      params: the parameters of `RaftSmall`.
      clip: RGB frames; sides of at least 64 pixels, after resizing to `size` if given.
      base: index of the base frame, static or traced.
      iters: number of RAFT's updates (Table 1f: 6 are as good as 12).
      size: side in pixels of the square frames that the flow is computed on; None computes at the clip's own size.
      dtype: the dtype of RAFT's convolutions; correlation, positions and flow stay float32.
      direction: which way the flow goes; see `neighbour_pairs`.
      points: h, w: read the flow at the centres of h x w equal cells of the frame, without upsampling it to pixels.
      both_ways: then also the flow of the same pairs the other way: [2 (T - 1), ...].
      scan: run the accelerators' program on a CPU as well: slower, but it compiles in seconds. For single clips.

    Returns:
      [T - 1, H, W, 2], or [T - 1, h, w, 2]: (x, y) in pixels of the clip.

    Raises:
      ConfigError: the frames that the flow is computed on have a side under 64 pixels.
    """
    source, target = neighbour_pairs(clip.shape[0], base, direction)
    if both_ways:
        source, target = jnp.concatenate([source, target]), jnp.concatenate([target, source])
    return pair_flow(params, clip, source, target, iters=iters, size=size, dtype=dtype, points=points, scan=scan)


def pair_flow(
    params: Mapping[str, Any],
    clip: UInt8[Array, "T H W 3"],
    source: Int[Any, "P"],
    target: Int[Any, "P"],
    *,
    iters: int,
    size: int | None = None,
    dtype: DTypeLike = jnp.float32,
    points: tuple[int, int] | None = None,
    scan: bool = False,
) -> Float[Array, "P y x xy=2"]:
    """Flow from frame source[p] to frame target[p] of a clip, for P pairs; see `clip_flow`."""
    frames, height, width, _ = clip.shape
    images = clip.astype(jnp.float32) * jnp.float32(2 / 255) - 1
    if size is not None and (height, width) != (size, size):
        images = jax.image.resize(images, (frames, size, size, 3), "bilinear")
    inner = images.shape[1:3]
    if min(inner) < MIN_SIDE:
        field, value = ("clip.size", (height, width)) if size is None else ("flow.size", size)
        raise ConfigError(
            field, value, f"{MIN_SIDE} pixels or more per side for RAFT; set flow.size if clips are smaller"
        )
    # RAFT's own padding: equal on both sides, edges repeated, up to a multiple of the cell.
    pad = [((-side % CELL) // 2, -side % CELL - (-side % CELL) // 2) for side in inner]
    images = jnp.pad(images, ((0, 0), *pad, (0, 0)), mode="edge")
    with jax.named_scope("raft"):
        low = _run(params, images, source, target, iters, dtype, scan)
        flow = _of_clip(low, inner, (height, width), points)
    return jax.lax.stop_gradient(flow)


def grid_flow(
    params: Mapping[str, Any],
    frames: UInt8[Array, "T H W 3"],
    source: Int[Any, "P"],
    target: Int[Any, "P"],
    *,
    iters: int,
    dtype: DTypeLike = jnp.float32,
    scan: bool = False,
) -> Float[Array, "P h w xy=2"]:
    """Flow between frames as RAFT-small refines it, in cells of 8 pixels; see `clip_flow`.

    The outermost cells' values belong to the centres of the frame's outermost pixels. H and W are multiples of 8 and at
    least 64.
    """
    images = frames.astype(jnp.float32) * jnp.float32(2 / 255) - 1
    return _run(params, images, source, target, iters, dtype, scan)


def clips_at_once(grid: TokenGrid, size: int | None) -> int:
    """How many clips' flow a TPU computes at once; see `clip_flow` for `size`."""
    height, width = (grid.height, grid.width) if size is None else (size, size)
    return max(1, _CELLS_ON_CHIP // (grid.frames * (height // CELL) * (width // CELL)))


def _run(
    params: Mapping[str, Any],
    images: Float[Array, "T H W 3"],
    source: Int[Any, "P"],
    target: Int[Any, "P"],
    iters: int,
    dtype: DTypeLike,
    scan: bool,
) -> Float[Array, "P h w xy=2"]:
    """Flow in cells by the program for the device."""
    low_flow = functools.partial(_low_flow, raft=RaftSmall(dtype), iters=iters)
    low: Array = jax.lax.platform_dependent(
        params,
        images,
        jnp.asarray(source),
        jnp.asarray(target),
        cpu=functools.partial(low_flow, for_cpu=not scan),
        default=functools.partial(low_flow, for_cpu=False),
    )
    return low


def _of_clip(
    low: Float[Array, "P h w xy=2"], inner: tuple[int, int], sides: tuple[int, int], points: tuple[int, int] | None
) -> Float[Array, "P y x xy=2"]:
    """Flow in pixels of the clip, of every pixel or at points.

    Args:
      low: flow in cells, of frames that were padded on both sides.
      inner: height and width that RAFT's frames had before padding.
      sides: height and width of the clip.
      points: see `clip_flow`.
    """
    top, left = ((-side % CELL) // 2 for side in inner)
    scale = jnp.array([sides[1] / inner[1], sides[0] / inner[0]], jnp.float32).reshape(1, 1, 1, 2)
    if points is not None:
        rows = _reading(points[0], inner[0], top, low.shape[1])
        columns = _reading(points[1], inner[1], left, low.shape[2])
        return read_rows_and_columns(low, rows, columns) * (CELL * scale)
    flow = upsample_flow(low)[:, top : top + inner[0], left : left + inner[1]]
    return flow if inner == sides else jax.image.resize(flow, (len(flow), *sides, 2), "bilinear") * scale


def _reading(points: int, side: int, before: int, cells: int) -> Float[Array, "{points} {cells}"]:
    """What `upsample_flow` and a resize would give at the centres of `points` equal parts of an axis, as a product.

    Args:
      points: how many values to read.
      side: the axis in pixels, as RAFT was given it.
      before: pixels of padding before it.
      cells: flow's cells along the padded axis; the outermost ones lie at its ends.
    """
    position = (jnp.arange(points, dtype=jnp.float32) + 0.5) * (side / points) - 0.5
    return hat_weights((jnp.clip(position, 0.0, side - 1.0) + before) * ((cells - 1) / (cells * CELL - 1)), cells)


def _low_flow(
    params: Mapping[str, Any],
    images: Float[Array, "T H W 3"],
    source: Int[Array, "P"],
    target: Int[Array, "P"],
    *,
    raft: RaftSmall,
    iters: int,
    for_cpu: bool,
) -> Float[Array, "P h w xy=2"]:
    """Flow in cells; all frames, then all pairs, in one batch, or in parts that suit a CPU."""

    apply = functools.partial(apply_module, raft, params)
    encode: Callable[..., Array] = functools.partial(apply, method="features")
    encode_context: Callable[..., Array] = functools.partial(apply, method="context")
    refine: Callable[..., Array] = functools.partial(apply, method="refine", iters=iters, for_cpu=for_cpu)
    if for_cpu:
        cells = images.shape[1] * images.shape[2] // CELL**2
        part = max(1, _CELLS_PER_PART // cells)
        encode, encode_context, refine = (_in_parts(f, part) for f in (encode, encode_context, refine))
    with jax.named_scope("encode"):
        features = encode(images)
        # Each frame once as well, if there are more pairs than frames.
        once = len(source) > len(images)
        context = encode_context(images)[source] if once else encode_context(images[source])
    with jax.named_scope("refine"):
        return refine(features[source], features[target], context)


def _in_parts(f: Callable[..., Array], part: int) -> Callable[..., Array]:
    """`f` over `part` rows of its arrays at a time, unrolled: each fits a core's cache, and XLA overlaps them."""

    f = jax.jit(f)  # traced once for all its parts

    def over_parts(*arrays: Array) -> Array:
        rows = range(0, arrays[0].shape[0], part)
        return jnp.concatenate([f(*(array[row : row + part] for array in arrays)) for row in rows])

    return over_parts
