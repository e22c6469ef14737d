"""Moving blocks: rectangles of hidden tokens, each of which follows the mean motion of what it covers.

After MGM (Fan, Wang, Liao, Zhu, Bhat, Santos-Villalobos, MV, Li: Motion-Guided Masking for Spatiotemporal
Representation Learning, ICCV 2023, arXiv 2308.12962), whose masks move with the motion vectors of the video's codec:
`flow.source=codec` gives these, and any other source will do. Theirs is the idea; how many blocks there are, how they
start and how the number of visible tokens is kept exact are this project's choices:

- Equally large blocks start in the base frame at random places, as many as hide about the mask ratio together. They
  may reach beyond the frame, so that its borders are hidden nearly as often as its middle.
- From frame to frame, outwards from the base frame, a block moves by the mean flow inside it; a tenth of each of its
  sides stays in the frame.
- Tokens outside of all blocks are visible, random ones of them if there are too many, the same in all tubelets as far
  as they can be; if there are too few, also those nearest to the edges of blocks.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions, base_frame
from mgmae_jax.masking.motion import points_of, select_visible
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.sampling import pixel_grid
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.rng import named_key

_REACH = 0.4  # how far a block's centre may be outside of the frame, in sides of the block
# Where the flow starts in the frame that a block moves to, its new place is found by this many steps towards it.
_SEARCH = 3


def check_block(grid: TokenGrid, options: MaskOptions) -> None:
    """Checks `mask.block`.

    Raises:
      ConfigError: it is not a part of the frame, or so small that thousands of blocks would hide hardly a token; or
        `mask.spacing` does not divide a patch.
    """
    least = 0.5 / max(grid.rows, grid.columns)
    if not least <= options.block < 1:
        want = f"the side of a block in sides of the frame, from half a token's, {least:.3g}, to less than 1"
        raise ConfigError("mask.block", options.block, want)
    if options.follows_points:
        points_of(grid, options)


def moving_blocks(ask: MaskInput) -> Int[Array, "V"]:
    """The tokens that no moving block hides."""
    return select_visible(ask.key, ask.grid, _volume(ask, ask.grid.rows, ask.grid.columns), ask.options)


def blocks_picture(ask: MaskInput) -> Float[Array, "T H W"]:
    """The volume that `moving_blocks` samples from, at every pixel: 1 outside of all blocks, 0 in the centre of one."""
    return _volume(ask, ask.grid.height, ask.grid.width)


def block_count(ratio: float, block: float) -> int:
    """How many blocks at random places hide a share of about `ratio` of the frame, each `block` times its sides."""
    share = (block / (1 + 2 * _REACH * block)) ** 2  # of the places where a block's centre may be
    return max(1, round(math.log(1 - ratio) / math.log(1 - share)))


def block_paths(
    start: Float[Array, "K xy=2"],
    flow: Float[Array, "P h w xy=2"],
    base: int | Int[Array, ""],
    outwards: Bool[Array, "P"],
    *,
    block: float,
    height: int,
    width: int,
) -> Float[Array, "T K xy=2"]:
    """Where the centres of blocks are in every frame.

    Args:
      start: where they are in the base frame, in pixels.
      flow: flow j is between frames j and j + 1, in pixels, at the centres of h x w equal cells, or of all pixels.
      base: index of the base frame, static or traced.
      outwards: whether each flow starts in the frame nearer to the base frame, or else in the one further away.
      block: the sides of a block, in sides of the frame.
      height: H of the frames in pixels.
      width: W of the frames in pixels.
    """
    pairs = flow.shape[0]
    sides = jnp.array([[width, height]], jnp.float32)
    # Outwards from the base frame: first the pairs before it, backwards in time, then those after it.
    step = jnp.arange(pairs, dtype=jnp.int32)
    order = jnp.where(step < base, base - 1 - step, step)

    def kept(centres: Float[Array, "K xy=2"]) -> Float[Array, "K xy=2"]:
        beyond = _REACH * block * sides
        return jnp.clip(centres, -0.5 - beyond, sides - 0.5 + beyond)

    def advance(centres: Array, pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        flow, outwards, restart = pair
        centres = jnp.where(restart, start, centres)
        ahead = kept(centres + mean_flow(flow, centres, block * sides, sides))
        back = centres
        for _ in range(_SEARCH):
            back = kept(centres - mean_flow(flow, back, block * sides, sides))
        centres = jnp.where(outwards, ahead, back)
        return centres, centres

    _, outward = jax.lax.scan(advance, start, (flow[order], outwards[order], step == base))
    # Pair j belongs to frame j before the base and to frame j + 1 after it.
    frame = jnp.where(order < base, order, order + 1)
    paths = jnp.zeros((pairs + 1, *start.shape)).at[frame].set(outward)
    return paths.at[jnp.asarray(base, np.int32)].set(start)


def mean_flow(
    flow: Float[Array, "h w xy=2"],
    centres: Float[Array, "K xy=2"],
    size: Float[Array, "1 xy=2"],
    sides: Float[Array, "1 xy=2"],
) -> Float[Array, "K xy=2"]:
    """The mean flow inside rectangles, as far as they lie in the frame: a product with what each covers of every cell.

    Args:
      flow: at the centres of h x w equal cells of the frame.
      centres: of the rectangles; a part of each lies in the frame.
      size: width and height of a rectangle in pixels.
      sides: width and height of the frame in pixels.
    """

    def covered(axis: int, cells: int) -> Float[Array, "K {cells}"]:
        edge = jnp.arange(cells + 1, dtype=jnp.float32).reshape(1, -1) * (sides[0, axis] / cells) - 0.5
        low = centres[:, axis, None] - size[0, axis] / 2
        share = jnp.minimum(low + size[0, axis], edge[:, 1:]) - jnp.maximum(low, edge[:, :-1])
        share = jnp.maximum(share, 0.0)
        return share / share.sum(axis=1, keepdims=True)

    down, across = covered(1, flow.shape[0]), covered(0, flow.shape[1])
    return jnp.einsum("kh,hwc,kw->kc", down, flow, across, precision=jax.lax.Precision.HIGHEST)


def _volume(ask: MaskInput, rows: int, columns: int) -> Float[Array, "T {rows} {columns}"]:
    """1 outside of all blocks, down to 0 in the centre of one, at the centres of equal cells of every frame."""
    if ask.flow is None:
        raise ValueError("moving_blocks needs flow [T - 1, H, W, 2]")
    grid, options = ask.grid, ask.options
    base = base_frame(ask.key, grid.frames, options)
    source, target = neighbour_pairs(grid.frames, base, options.direction)
    sides = jnp.array([[grid.width, grid.height]], jnp.float32)
    beyond = _REACH * options.block
    places = jax.random.uniform(
        named_key(ask.key, "map", DRAWS),
        (block_count(options.ratio, options.block), 2),
        jnp.float32,
        -beyond,
        1 + beyond,
    )
    with jax.named_scope("blocks"):
        paths = block_paths(
            places * sides - 0.5,
            ask.flow,
            base,
            jnp.asarray(abs(source - base) < abs(target - base)),
            block=options.block,
            height=grid.height,
            width=grid.width,
        )
        cell = (sides / jnp.array([[columns, rows]], jnp.float32)).reshape(1, 1, 2)
        points = (pixel_grid(rows, columns) + 0.5) * cell - 0.5
        away = jnp.abs(points[None, :, :, None] - paths[:, None, None]) / (options.block * sides / 2)[None, None, None]
        return jnp.minimum(away.max(axis=-1).min(axis=-1), 1.0)
