"""Masking strategies behind one signature: motion guided (the paper), tube, random, frame."""

import dataclasses
import functools
from typing import Literal, Protocol, runtime_checkable

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
from mgmae_jax.masking.volume import HoleFill, Warp, visibility_volume
from mgmae_jax.ops.pairs import Direction
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit


@runtime_checkable
class Sampler(Protocol):
    """A masking strategy for one clip; `jax.vmap` makes the batch."""

    def __call__(
        self,
        key: Key[Array, ""],
        grid: TokenGrid,
        *,
        clip: UInt8[Array, "T H W 3"] | None = None,
        flow: Float[Array, "P H W xy=2"] | None = None,
    ) -> TokenSplit:
        """Splits the clip's tokens into visible and target; the counts depend on nothing that is traced."""
        ...


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """Every choice of config.mask; the defaults are the paper's.

    Args:
      strategy: "motion" (the paper), "tube" (VideoMAE), "random" or "frame" (MAE-ST).
      ratio: share of the tokens that is hidden.
      base_frame: "middle", "first" or "random" per sample (Table 1a).
      init: the base frame's map: "gaussian", "token" or "pixel" (Table 1d).
      warp: "backward" or "forward" (Table 1b).
      hole_fill: "tube", "random", "invisible", "visible" or "previous" (Table 1e).
      select: "tubelet" (the paper's frame level) or "clip" (Table 1c).
      exposure: scale of the noise on one random frame's scores; 0 is none.
      preset: "paper", or "released_code" for what the authors' program does: flow always towards the earlier frame,
        Gaussians without the 1/2 combined by maximum, holes where the value is exactly 0, flow shortened by (W - 1) /
        W.
    """

    strategy: Literal["motion", "tube", "random", "frame"] = "motion"
    ratio: float = 0.9
    base_frame: Literal["middle", "first", "random"] = "middle"
    init: Literal["gaussian", "token", "pixel"] = "gaussian"
    warp: Warp = "backward"
    hole_fill: HoleFill = "tube"
    select: Literal["tubelet", "clip"] = "tubelet"
    exposure: float = 0.0
    preset: Literal["paper", "released_code"] = "paper"

    def __post_init__(self) -> None:
        choices = {
            "strategy": tuple(STRATEGIES),
            "base_frame": ("middle", "first", "random"),
            "init": ("gaussian", "token", "pixel"),
            "warp": ("backward", "forward"),
            "hole_fill": ("tube", "random", "invisible", "visible", "previous"),
            "select": ("tubelet", "clip"),
            "preset": ("paper", "released_code"),
        }
        for field, allowed in choices.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ConfigError(f"mask.{field}", value, "one of " + ", ".join(allowed))
        if not self.exposure >= 0:
            raise ConfigError("mask.exposure", self.exposure, "0 or a positive number")
        if self.preset == "released_code" and self.warp == "forward":
            raise ConfigError(
                "mask.warp", self.warp, "backward with mask.preset=released_code, which has no forward warping"
            )

    @property
    def needs_flow(self) -> bool:
        """Whether the strategy reads the flow."""
        return self.strategy == "motion"

    @property
    def direction(self) -> Direction:
        """Which way the flow must go (`ops.pairs.neighbour_pairs`)."""
        if self.warp == "forward":
            return "from_base"
        return "to_earlier" if self.preset == "released_code" else "to_base"


def base_frame(key: Key[Array, ""], frames: int, options: MaskOptions) -> int | Int[Array, ""]:
    """Index of the base frame of the sample whose mask has this key (Table 1a); traced only where it is random."""
    if options.base_frame == "random":
        return jax.random.randint(jax.random.fold_in(key, 0), (), 0, frames, jnp.int32)
    return frames // 2 if options.base_frame == "middle" else 0


def motion_volume(
    key: Key[Array, ""], grid: TokenGrid, flow: Float[Array, "P H W xy=2"], options: MaskOptions
) -> Float[Array, "T H W"]:
    """The visibility volume of one clip, as `motion` samples from it; see `visibility_volume` for the flow."""
    key_map, key_holes = jax.random.split(jax.random.fold_in(key, 1))
    count = visible_per_tubelet(options.ratio, grid)
    released = options.preset == "released_code"
    if options.init == "pixel":
        share = count / grid.per_tubelet
        start = base_map.pixel_map(key_map, grid, round(share * grid.height * grid.width))
    else:
        # The released code, where it draws the centres, rounds the hidden tokens down (20 visible for 224 pixels and
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


def warp_volume(
    start: Float[Array, "H W"],
    grid: TokenGrid,
    flow: Float[Array, "P H W xy=2"],
    base: int | Int[Array, ""],
    key: Key[Array, ""],
    options: MaskOptions,
) -> Float[Array, "T H W"]:
    """The volume of a given base map, by the options' rules."""
    released = options.preset == "released_code"
    if released:
        # Its sampler divides by W / 2 on a grid that spans W - 1 pixels.
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
    key: Key[Array, ""], grid: TokenGrid, volume: Float[Array, "T H W"], options: MaskOptions
) -> Int[Array, "V"]:
    """The visible tokens of a volume, unsorted."""
    key_expose, key_ties = jax.random.split(jax.random.fold_in(key, 2))
    count = visible_per_tubelet(options.ratio, grid)
    scores = frame_scores(volume, grid)
    if options.exposure:
        scores = expose_one_frame(key_expose, scores, options.exposure)
    scores = token_scores(scores, grid)
    with jax.named_scope("top_k"):
        if options.select == "tubelet":
            return select_by_tubelet(key_ties, scores, count)
        return highest(key_ties, scores.reshape(-1), count * grid.tubelets)


def motion(
    key: Key[Array, ""],
    grid: TokenGrid,
    *,
    clip: UInt8[Array, "T H W 3"] | None = None,
    flow: Float[Array, "P H W xy=2"] | None = None,
    options: MaskOptions,
) -> TokenSplit:
    """Motion guided masking: the tokens that stay most visible when the base frame's map is carried along the flow."""
    if flow is None:
        raise ValueError("motion masking needs flow [T - 1, H, W, 2]")
    volume = motion_volume(key, grid, flow, options)
    return split_tokens(select_visible(key, grid, volume, options), grid)


def tube(
    key: Key[Array, ""],
    grid: TokenGrid,
    *,
    clip: UInt8[Array, "T H W 3"] | None = None,
    flow: Float[Array, "P H W xy=2"] | None = None,
    options: MaskOptions,
) -> TokenSplit:
    """The same random tokens visible in every tubelet (VideoMAE)."""
    tokens = base_map.random_tokens(key, grid, visible_per_tubelet(options.ratio, grid))
    start = jnp.arange(grid.tubelets, dtype=jnp.int32)[:, None] * grid.per_tubelet
    return split_tokens((start + tokens[None]).reshape(-1), grid)


def random(
    key: Key[Array, ""],
    grid: TokenGrid,
    *,
    clip: UInt8[Array, "T H W 3"] | None = None,
    flow: Float[Array, "P H W xy=2"] | None = None,
    options: MaskOptions,
) -> TokenSplit:
    """Random tokens anywhere in the clip, as many as the other strategies show (MAE-ST)."""
    count = visible_per_tubelet(options.ratio, grid) * grid.tubelets
    tokens = jax.random.permutation(key, jnp.arange(grid.tokens, dtype=jnp.int32))
    return split_tokens(tokens[:count], grid)


def frame(
    key: Key[Array, ""],
    grid: TokenGrid,
    *,
    clip: UInt8[Array, "T H W 3"] | None = None,
    flow: Float[Array, "P H W xy=2"] | None = None,
    options: MaskOptions,
) -> TokenSplit:
    """Whole random tubelets visible, as many tokens as the other strategies show; the last one in part, at random."""
    key_tubelets, key_tokens = jax.random.split(key)
    count = visible_per_tubelet(options.ratio, grid) * grid.tubelets
    tubelets = jax.random.permutation(key_tubelets, jnp.arange(grid.tubelets, dtype=jnp.int32))
    tokens = jax.random.permutation(key_tokens, jnp.arange(grid.per_tubelet, dtype=jnp.int32))
    return split_tokens((tubelets[:, None] * grid.per_tubelet + tokens[None]).reshape(-1)[:count], grid)


STRATEGIES = {"motion": motion, "tube": tube, "random": random, "frame": frame}


def build_sampler(options: MaskOptions) -> Sampler:
    """The strategy that the options name, with the options filled in."""
    return functools.partial(STRATEGIES[options.strategy], options=options)
