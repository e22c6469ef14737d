"""Masking strategies, by name: motion guided (the paper), tube, random, frame. A new one is a function and a line.

A strategy is a pure function from a `MaskInput`, which is all that it may look at, to the visible tokens of one clip;
`jax.vmap` makes the batch. Its line in `STRATEGIES`, at the end, gives the rest.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking import base_map
from mgmae_jax.masking.select import (
    expose_one_frame,
    frame_scores,
    highest,
    select_by_tubelet,
    split_tokens,
    token_scores,
    visible_per_tubelet,
)
from mgmae_jax.masking.trajectory import FILLS, trajectory_volume
from mgmae_jax.masking.volume import HoleFill, Warp, visibility_volume
from mgmae_jax.ops.pairs import Direction
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit
from mgmae_jax.runtime.rng import named_key

# What is drawn from a sample's key. A draw's id is its place here, so names are only ever appended.
DRAWS = ("base", "map", "select")


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """Every choice of config.mask; the defaults are the paper's.

    Args:
      strategy: a name in `STRATEGIES`: "motion" (the paper), "tube" (VideoMAE), "random" or "frame" (MAE-ST).
      ratio: share of the tokens that is hidden.
      base_frame: "middle", "first" or "random" per sample (Table 1a).
      init: the base frame's map: "gaussian", "token" or "pixel" (Table 1d).
      warp: "backward" or "forward" (Table 1b); or "trajectory", the backward warp without warping pixels: a few points
        of each token are followed to the base frame (`masking.trajectory`).
      spacing: pixels from one of these points to the next; it divides the patch.
      hole_fill: "tube", "random", "invisible", "visible" or "previous" (Table 1e); "random" and "visible" not with
        trajectories.
      select: "tubelet" (the paper's frame level) or "clip" (Table 1c).
      exposure: scale of the noise on one random frame's scores; 0 is none.
      preset: "paper", "fast" (which differs by the values of fields, see `masking.presets`), or "released_code" for the
        behaviour of the authors' program: flow always towards the earlier frame, Gaussians without the 1/2 combined by
        maximum, holes where the value is exactly 0, flow shortened by (W - 1) / W.
    """

    strategy: str = "motion"
    ratio: float = 0.9
    base_frame: Literal["middle", "first", "random"] = "middle"
    init: Literal["gaussian", "token", "pixel"] = "gaussian"
    warp: Warp | Literal["trajectory"] = "backward"
    spacing: int = 8
    hole_fill: HoleFill = "tube"
    select: Literal["tubelet", "clip"] = "tubelet"
    exposure: float = 0.0
    preset: Literal["paper", "fast", "released_code"] = "paper"

    def __post_init__(self) -> None:
        choices = {
            "strategy": tuple(STRATEGIES),
            "base_frame": ("middle", "first", "random"),
            "init": ("gaussian", "token", "pixel"),
            "warp": ("backward", "forward", "trajectory"),
            "hole_fill": ("tube", "random", "invisible", "visible", "previous"),
            "select": ("tubelet", "clip"),
            "preset": ("paper", "fast", "released_code"),
        }
        for field, allowed in choices.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ConfigError(f"mask.{field}", value, "one of " + ", ".join(allowed))
        if not self.exposure >= 0:
            raise ConfigError("mask.exposure", self.exposure, "0 or a positive number")
        if self.preset == "released_code" and self.warp != "backward":
            raise ConfigError("mask.warp", self.warp, "backward with mask.preset=released_code, which has no other")
        if self.follows_points:
            for field, allowed in (("init", ("gaussian",)), ("hole_fill", FILLS)):
                if (value := getattr(self, field)) not in allowed:
                    want = f"{' or '.join(allowed)} with mask.warp=trajectory, or set mask.warp=backward"
                    raise ConfigError(f"mask.{field}", value, want)
            if self.spacing < 1:
                raise ConfigError("mask.spacing", self.spacing, "1 or more")

    @property
    def needs_flow(self) -> bool:
        """Whether the strategy reads the flow."""
        return STRATEGIES[self.strategy].needs_flow

    @property
    def follows_points(self) -> bool:
        """Whether the strategy follows points, and so reads the flow at these alone."""
        return self.needs_flow and self.warp == "trajectory"

    @property
    def direction(self) -> Direction:
        """Which way the flow must go (`ops.pairs.neighbour_pairs`)."""
        if self.warp == "forward":
            return "from_base"
        return "to_earlier" if self.preset == "released_code" else "to_base"


@dataclasses.dataclass(frozen=True)
class MaskInput:
    """What a strategy may look at, for one clip.

    Args:
      key: the source of everything random.
      grid: how the clip is cut.
      options: config.mask.
      clip: the clip; None if a mask is drawn without one, as in a notebook.
      flow: the flow between neighbouring frames in pixels, see `MaskOptions.direction`: that of every pixel, or with
        trajectories that at the centres of equal cells; None unless the strategy needs it.
      params: the strategy's own parameters, if it has any.
    """

    key: Key[Array, ""]
    grid: TokenGrid
    options: MaskOptions
    clip: UInt8[Array, "T H W 3"] | None = None
    flow: Float[Array, "P h w xy=2"] | None = None
    params: Any = None

    @property
    def per_tubelet(self) -> int:
        """How many tokens of each tubelet are visible; all strategies show the same number over the whole clip."""
        return visible_per_tubelet(self.options.ratio, self.grid)

    @property
    def count(self) -> int:
        """How many tokens of the clip are visible, V."""
        return self.per_tubelet * self.grid.tubelets


@dataclasses.dataclass(frozen=True)
class Strategy:
    """A masking strategy.

    Args:
      visible: the V visible tokens of a clip, in any order; V is `MaskInput.count`.
      needs_flow: whether it reads `MaskInput.flow`.
      volume: the visibility [T, H, W] that pictures show; with None they show the visible tokens.
      init: makes the parameters of a strategy that learns, from a key, grid and options; they are kept in the train
        state as "mask".
      loss: for a strategy that learns, what is added to the reconstruction loss of a clip: from the input, the split,
        and the error of each target token without a gradient, to a scalar (as for AdaMAE's sampling network).
    """

    visible: Callable[[MaskInput], Int[Array, "V"]]
    needs_flow: bool = False
    volume: Callable[[MaskInput], Float[Array, "T H W"]] | None = None
    init: Callable[[Key[Array, ""], TokenGrid, MaskOptions], Any] | None = None
    loss: Callable[[MaskInput, TokenSplit, Float[Array, "K"]], Float[Array, ""]] | None = None


def draw_mask(ask: MaskInput) -> TokenSplit:
    """Splits a clip's tokens into visible and target ones by the strategy that the options name.

    The counts do not depend on traced values.
    """
    return split_tokens(STRATEGIES[ask.options.strategy].visible(ask), ask.grid)


def base_frame(key: Key[Array, ""], frames: int, options: MaskOptions) -> int | Int[Array, ""]:
    """Index of the base frame of the sample whose mask has this key (Table 1a); traced only if it is random."""
    if options.base_frame == "random":
        return jax.random.randint(named_key(key, "base", DRAWS), (), 0, frames, jnp.int32)
    return frames // 2 if options.base_frame == "middle" else 0


def motion_volume(
    key: Key[Array, ""], grid: TokenGrid, flow: Float[Array, "P h w xy=2"], options: MaskOptions
) -> Float[Array, "T y x"]:
    """The visibility volume of one clip, as `motion` samples from it.

    Args:
      key: the mask's key.
      grid: how the clip is cut.
      flow: see `MaskInput.flow`, `visibility_volume` and `trajectory_volume`.
      options: config.mask.

    Returns:
      Visibility of every pixel, or with trajectories of points `options.spacing` pixels apart.
    """
    key_map, key_holes = jax.random.split(named_key(key, "map", DRAWS))
    count = visible_per_tubelet(options.ratio, grid)
    if options.follows_points:
        tokens = base_map.random_tokens(key_map, grid, count)
        with jax.named_scope("volume"):
            return trajectory_volume(
                base_map.token_centres(tokens, grid),
                resample_cells(flow, *points_of(grid, options)),
                base_frame(key, grid.frames, options),
                height=grid.height,
                width=grid.width,
                sigma=float(grid.patch),
                hole_fill=options.hole_fill,
            )
    released = options.preset == "released_code"
    if options.init == "pixel":
        share = count / grid.per_tubelet
        start = base_map.pixel_map(key_map, grid, round(share * grid.height * grid.width))
    else:
        # When it draws the centres, the released code rounds the hidden tokens down (20 visible for 224 pixels and
        # 0.9).
        centres = grid.per_tubelet - int(options.ratio * grid.per_tubelet) if released else count
        tokens = base_map.random_tokens(key_map, grid, centres)
        if options.init == "token":
            start = base_map.token_map(tokens, grid)
        else:
            gaussian = base_map.gaussian_maximum if released else base_map.gaussian_mixture
            start = gaussian(base_map.token_centres(tokens, grid), grid, float(grid.patch))
    if released and options.init != "gaussian":
        # Its holes are zeros, so the map itself has none.
        start = jnp.maximum(start, 1e-8)
    return warp_volume(start, grid, flow, base_frame(key, grid.frames, options), key_holes, options)


def points_of(grid: TokenGrid, options: MaskOptions) -> tuple[int, int]:
    """How many points a frame has down and across, `options.spacing` pixels apart.

    Raises:
      ConfigError: a token cannot have the same points as every other.
    """
    if grid.patch % options.spacing:
        raise ConfigError("mask.spacing", options.spacing, f"a divisor of model.patch={grid.patch}")
    return grid.height // options.spacing, grid.width // options.spacing


def warp_volume(
    start: Float[Array, "H W"],
    grid: TokenGrid,
    flow: Float[Array, "P H W xy=2"],
    base: int | Int[Array, ""],
    key: Key[Array, ""],
    options: MaskOptions,
) -> Float[Array, "T H W"]:
    """The volume of a given base map, by the rules in the options; not with trajectories, which warp no map."""
    if options.warp == "trajectory":
        raise ValueError("mask.warp=trajectory evaluates Gaussians and warps no map: call trajectory_volume")
    released = options.preset == "released_code"
    if released:
        # The released code's sampler divides by W / 2 on a grid that spans W - 1 pixels.
        shrink = jnp.array([(grid.width - 1) / grid.width, (grid.height - 1) / grid.height], jnp.float32)
        flow = flow * shrink.reshape(1, 1, 1, 2)
    with jax.named_scope("volume"):
        return visibility_volume(
            start,
            flow,
            base,
            key,
            warp=options.warp,
            hole_fill=options.hole_fill,
            ratio=options.ratio,
            zero_is_hole=released,
        )


def select_visible(
    key: Key[Array, ""], grid: TokenGrid, volume: Float[Array, "T h w"], options: MaskOptions
) -> Int[Array, "V"]:
    """The visible tokens of a volume, of pixels or points, unsorted."""
    key_expose, key_ties = jax.random.split(named_key(key, "select", DRAWS))
    count = visible_per_tubelet(options.ratio, grid)
    scores = frame_scores(volume, grid)
    if options.exposure:
        scores = expose_one_frame(key_expose, scores, options.exposure)
    scores = token_scores(scores, grid)
    with jax.named_scope("top_k"):
        if options.select == "tubelet":
            return select_by_tubelet(key_ties, scores, count)
        return highest(key_ties, scores.reshape(-1), count * grid.tubelets)


def motion(ask: MaskInput) -> Int[Array, "V"]:
    """Motion guided masking: the tokens that stay most visible when the base frame's map is carried along the flow."""
    return select_visible(ask.key, ask.grid, _motion_volume(ask), ask.options)


def _motion_volume(ask: MaskInput) -> Float[Array, "T y x"]:
    if ask.flow is None:
        raise ValueError("motion masking needs flow [T - 1, H, W, 2]")
    return motion_volume(ask.key, ask.grid, ask.flow, ask.options)


def _motion_picture(ask: MaskInput) -> Float[Array, "T H W"]:
    return resample_cells(_motion_volume(ask)[..., None], ask.grid.height, ask.grid.width)[..., 0]


def tube(ask: MaskInput) -> Int[Array, "V"]:
    """The same random tokens visible in every tubelet (VideoMAE)."""
    tokens = base_map.random_tokens(ask.key, ask.grid, ask.per_tubelet)
    start = jnp.arange(ask.grid.tubelets, dtype=jnp.int32)[:, None] * ask.grid.per_tubelet
    return (start + tokens[None]).reshape(-1)


def random(ask: MaskInput) -> Int[Array, "V"]:
    """Random tokens anywhere in the clip (MAE-ST)."""
    return jax.random.permutation(ask.key, jnp.arange(ask.grid.tokens, dtype=jnp.int32))[: ask.count]


def frame(ask: MaskInput) -> Int[Array, "V"]:
    """Whole random tubelets visible, and a random part of one more."""
    key_tubelets, key_tokens = jax.random.split(ask.key)
    tubelets = jax.random.permutation(key_tubelets, jnp.arange(ask.grid.tubelets, dtype=jnp.int32))
    tokens = jax.random.permutation(key_tokens, jnp.arange(ask.grid.per_tubelet, dtype=jnp.int32))
    return (tubelets[:, None] * ask.grid.per_tubelet + tokens[None]).reshape(-1)[: ask.count]


STRATEGIES = {
    "motion": Strategy(motion, needs_flow=True, volume=_motion_picture),
    "tube": Strategy(tube),
    "random": Strategy(random),
    "frame": Strategy(frame),
}
