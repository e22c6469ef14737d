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

MIN_SIDE = 64
"""Smallest side of a frame, in pixels, that RAFT's four-level pyramid can work on."""

# One 224x224 frame: larger parts do not fit the cache of one core.
_CELLS_PER_PART = 28 * 28


def clip_flow(
    params: Mapping[str, Any],
    clip: UInt8[Array, "T H W 3"],
    base: int | Int[Array, ""],
    *,
    iters: int = 6,
    size: int | None = None,
    dtype: DTypeLike = jnp.float32,
    direction: Direction = "to_base",
    scan: bool = False,
) -> Float[Array, "P H W xy=2"]:
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
      scan: run the accelerators' program on a CPU as well: slower, but it compiles in seconds. For single clips.

    Returns:
      [T - 1, H, W, 2], (x, y) in pixels of the clip.

    Raises:
      ConfigError: the frames that the flow is computed on have a side under 64 pixels.
    """
    source, target = neighbour_pairs(clip.shape[0], base, direction)
    return pair_flow(params, clip, source, target, iters=iters, size=size, dtype=dtype, scan=scan)


def pair_flow(
    params: Mapping[str, Any],
    clip: UInt8[Array, "T H W 3"],
    source: Int[Any, "P"],
    target: Int[Any, "P"],
    *,
    iters: int,
    size: int | None = None,
    dtype: DTypeLike = jnp.float32,
    scan: bool = False,
) -> Float[Array, "P H W xy=2"]:
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
    low_flow = functools.partial(_low_flow, raft=RaftSmall(dtype), iters=iters)
    with jax.named_scope("raft"):
        low = jax.lax.platform_dependent(
            params,
            images,
            jnp.asarray(source),
            jnp.asarray(target),
            cpu=functools.partial(low_flow, for_cpu=not scan),
            default=functools.partial(low_flow, for_cpu=False),
        )
        (top, _), (left, _) = pad
        flow = upsample_flow(low)[:, top : top + inner[0], left : left + inner[1]]
        if inner != (height, width):
            scale = jnp.array([width / inner[1], height / inner[0]], jnp.float32).reshape(1, 1, 1, 2)
            flow = jax.image.resize(flow, (flow.shape[0], height, width, 2), "bilinear") * scale
    return jax.lax.stop_gradient(flow)


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
        features, context = encode(images), encode_context(images[source])
    with jax.named_scope("refine"):
        return refine(features[source], features[target], context)


def _in_parts(f: Callable[..., Array], part: int) -> Callable[..., Array]:
    """`f` over `part` rows of its arrays at a time, unrolled: each fits a core's cache, and XLA overlaps them."""

    f = jax.jit(f)  # traced once for all its parts

    def over_parts(*arrays: Array) -> Array:
        rows = range(0, arrays[0].shape[0], part)
        return jnp.concatenate([f(*(array[row : row + part] for array in arrays)) for row in rows])

    return over_parts
