"""What a masking strategy is given, and what it is: the seam between a strategy and the masking step."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.masking.volume import HoleFill, Warp
from mgmae_jax.ops.pairs import Direction
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit
from mgmae_jax.runtime.rng import named_key

# What is drawn from a sample's key. A draw's id is its place here, so names are only ever appended.
DRAWS = ("base", "map", "select", "decoder")


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """Every choice of config.mask; the defaults are the paper's.

    Args:
      strategy: a name in `strategies.STRATEGIES`, such as "motion" (the paper) or "tube" (VideoMAE).
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
      occlusion: "none", or "consistency": motion masks take pixels or points that the neighbouring frame hides, by flow
        both ways (`masking.occlusion`), for holes; not with forward warping.
      preset: "paper", "fast" (which differs by the values of fields, see `masking.presets`), or "released_code" for the
        behaviour of the authors' program: flow always towards the earlier frame, Gaussians without the 1/2 combined by
        maximum, holes where the value is exactly 0, flow shortened by (W - 1) / W.
      decoder: what the decoder predicts: "all" that is hidden from the encoder, or what a mask of its own leaves,
        "running_cell" (VideoMAE V2's dual masking, see `masking.running_cell`).
      decoder_ratio: share of the tokens that the decoder's mask hides.
      prefer: whether "motion_energy" and "frame_difference" keep the moving tokens "visible" or "hidden".
      temperature: of their draws, in standard deviations of a clip's energies; 0 takes exactly the first.
      keep: share of the tokens that "everest" uses, visible ones and targets; more than 1 - `ratio`.
      loss_weight: of the loss of the network that "adamae" trains, beside the reconstruction loss.
      blocks: how many blocks "multi_block" hides.
      block_scale: the share of the frame that each covers.
      block_aspect: the largest ratio of a block's sides, 1 or more.
      block: the sides of a block of "moving_blocks", in sides of the frame.
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
    occlusion: Literal["none", "consistency"] = "none"
    preset: Literal["paper", "fast", "released_code"] = "paper"
    decoder: Literal["all", "running_cell"] = "all"
    decoder_ratio: float = 0.5
    prefer: Literal["visible", "hidden"] = "visible"
    temperature: float = 0.0
    keep: float = 0.3
    loss_weight: float = 1e-4
    blocks: int = 8
    block_scale: float = 0.15
    block_aspect: float = 1.5
    block: float = 0.4

    def __post_init__(self) -> None:
        choices = {
            "base_frame": ("middle", "first", "random"),
            "init": ("gaussian", "token", "pixel"),
            "warp": ("backward", "forward", "trajectory"),
            "hole_fill": ("tube", "random", "invisible", "visible", "previous"),
            "select": ("tubelet", "clip"),
            "occlusion": ("none", "consistency"),
            "preset": ("paper", "fast", "released_code"),
            "decoder": ("all", "running_cell"),
            "prefer": ("visible", "hidden"),
        }
        for field, allowed in choices.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ConfigError(f"mask.{field}", value, "one of " + ", ".join(allowed))
        for field in ("exposure", "temperature", "loss_weight"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ConfigError(f"mask.{field}", getattr(self, field), "0 or a positive number")

    @property
    def follows_points(self) -> bool:
        """Whether points are followed, where flow is read at all: it is then that at the centres of equal cells."""
        return self.warp == "trajectory"

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
        trajectories that at the centres of equal cells; None unless the strategy needs it. With
        `MaskOptions.occlusion`, the flow of the same pairs the other way follows it, for strategies that read this.
      params: the strategy's own parameters, if it has any.
      tokens: what the encoder makes of every token before its blocks, patch embeddings without positions or gradient;
        where there is no model the normalised pixels; None unless the strategy needs it.
    """

    key: Key[Array, ""]
    grid: TokenGrid
    options: MaskOptions
    clip: UInt8[Array, "T H W 3"] | None = None
    flow: Float[Array, "P h w xy=2"] | None = None
    params: Any = None
    tokens: Float[Array, "N D"] | None = None

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
      target: the tokens to predict, given the visible ones, as many for every clip; None for all that are hidden.
      needs_flow: whether it reads `MaskInput.flow`.
      reads_occlusion: whether it reads flow both ways where `mask.occlusion` is "consistency".
      needs_tokens: whether it reads `MaskInput.tokens`.
      volume: the visibility [T, H, W] that pictures show; with None they show the visible tokens.
      check: raises ConfigError for options that it cannot work with.
      init: makes the parameters of a strategy that learns, from a key, grid, options and the width of
        `MaskInput.tokens`; they are kept in the train state as "mask".
      loss: for a strategy that learns, what is added to the reconstruction loss of a clip: from the input, the split,
        and the error of each target token without a gradient, to a scalar (as for AdaMAE's sampling network).
    """

    visible: Callable[[MaskInput], Int[Array, "V"]]
    target: Callable[[MaskInput, Int[Array, "V"]], Int[Array, "K"]] | None = None
    needs_flow: bool = False
    reads_occlusion: bool = False
    needs_tokens: bool = False
    volume: Callable[[MaskInput], Float[Array, "T H W"]] | None = None
    check: Callable[[TokenGrid, MaskOptions], None] | None = None
    init: Callable[[Key[Array, ""], TokenGrid, MaskOptions, int], Any] | None = None
    loss: Callable[[MaskInput, TokenSplit, Float[Array, "K"]], Float[Array, ""]] | None = None


@dataclasses.dataclass(frozen=True)
class DecoderMask:
    """A mask of the decoder's own.

    Args:
      decoded: the tokens to predict, ascending, as many for every clip; the encoder may see some of them.
      check: raises ConfigError for options that it cannot work with.
    """

    decoded: Callable[[MaskInput], Int[Array, "K"]]
    check: Callable[[TokenGrid, MaskOptions], None]


def base_frame(key: Key[Array, ""], frames: int, options: MaskOptions) -> int | Int[Array, ""]:
    """Index of the base frame of the sample whose mask has this key (Table 1a); traced only if it is random."""
    if options.base_frame == "random":
        return jax.random.randint(named_key(key, "base", DRAWS), (), 0, frames, jnp.int32)
    return frames // 2 if options.base_frame == "middle" else 0
