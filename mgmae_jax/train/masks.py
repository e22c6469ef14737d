"""The masking step: from a batch of clips to their tokens, by flow and strategy, inside the train step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.data.batches import BatchSpec, TrainBatches
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import FlowSpec, pretrain_batches
from mgmae_jax.data.sources import VideoList
from mgmae_jax.datasets.find import find_videos, flow_folders
from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import clip_flow
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.masking.strategies import STRATEGIES, MaskInput, MaskOptions, Strategy, base_frame, draw_mask
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, unpatchify
from mgmae_jax.runtime.config_checks import parse_dtype


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """Where the flow comes from (config.flow).

    Args:
      source: "raft", RAFT-small inside the step; "tvl1", Dual TV-L1 in the data workers; "stored", read by them from
        files beside the videos; "none".
      iters: number of RAFT's updates.
      size: side in pixels of the frames that RAFT processes; None means the clip's own size.
      dtype: the dtype of RAFT's convolutions.
      tvl1_fast: see `data.host_flow.tvl1_flow`.
    """

    source: Literal["raft", "tvl1", "stored", "none"] = "raft"
    iters: int = 6
    size: int | None = None
    dtype: str = "float32"
    tvl1_fast: bool = True

    def __post_init__(self) -> None:
        if self.source not in ("raft", "tvl1", "stored", "none"):
            raise ConfigError("flow.source", self.source, "one of raft, tvl1, stored, none")
        if self.iters < 1:
            raise ConfigError("flow.iters", self.iters, "1 or more")


@dataclasses.dataclass(frozen=True)
class MaskStep:
    """Everything that the masking step consists of.

    Raises:
      ConfigError: the mask needs flow, but there is none.
    """

    grid: TokenGrid
    mask: MaskOptions
    flow: FlowOptions

    def __post_init__(self) -> None:
        if self.mask.needs_flow and self.flow.source == "none":
            want = f"raft, tvl1 or stored, one of which mask.strategy={self.mask.strategy} needs"
            raise ConfigError("flow.source", "none", want)

    @property
    def strategy(self) -> Strategy:
        """The strategy of `mask.strategy`."""
        return STRATEGIES[self.mask.strategy]

    @property
    def reads_stored_flow(self) -> bool:
        """Whether the flow is read from files."""
        return self.mask.needs_flow and self.flow.source == "stored"

    @property
    def runs_raft(self) -> bool:
        """Whether RAFT runs in the step."""
        return self.mask.needs_flow and self.flow.source == "raft"

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """The strategy's own parameters, as {"mask": ...}; empty where it learns nothing."""
        init = self.strategy.init
        return {} if init is None else {"mask": init(key, self.grid, self.mask)}

    def __call__(self, flow_params: Mapping[str, Any], batch: Mapping[str, Array], keys: Key[Array, "B"]) -> TokenSplit:
        """Masks a batch, by a strategy without parameters: `batch_flow`, then `draw`."""
        return self.draw(None, batch["clip"], self.batch_flow(flow_params, batch, keys), keys)

    def batch_flow(
        self, flow_params: Mapping[str, Any], batch: Mapping[str, Array], keys: Key[Array, "B"]
    ) -> Float[Array, "B P H W xy=2"] | None:
        """The flow that the masks of a batch need; None where they need none.

        Args:
          flow_params: RAFT's parameters, or an empty dict if RAFT does not run.
          batch: "clip" uint8 [B, T, H, W, 3], and with TV-L1 or stored flow "flow" float32 [B, T - 1, H, W, 2], or
            [B, 2, T - 1, H, W, 2] (both directions) if the base frame is random.
          keys: the keys of the masks, one per clip.
        """

        def one(key: Array, clip: Array, stored: Array | None) -> Array | None:
            return self.flow_of(flow_params, key, clip, stored)

        return jax.vmap(one)(keys, batch["clip"], batch.get("flow"))

    def draw(
        self,
        params: Any,
        clips: UInt8[Array, "B T H W 3"],
        flow: Float[Array, "B P H W xy=2"] | None,
        keys: Key[Array, "B"],
    ) -> TokenSplit:
        """The split of each clip, int32 [B, V] and [B, K].

        Args:
          params: the strategy's own parameters, or None.
          clips: the clips of the batch.
          flow: see `batch_flow`.
          keys: the keys of the masks, one per clip.
        """

        def one(key: Array, clip: Array, flow: Array | None) -> TokenSplit:
            with jax.named_scope("mask"):
                return draw_mask(MaskInput(key, self.grid, self.mask, clip, flow, params))

        return jax.vmap(one)(keys, clips, flow)

    def auxiliary_loss(
        self,
        params: Any,
        clips: UInt8[Array, "B T H W 3"],
        flow: Float[Array, "B P H W xy=2"] | None,
        keys: Key[Array, "B"],
        split: TokenSplit,
        errors: Float[Array, "B K"],
    ) -> Float[Array, ""]:
        """The mean of `Strategy.loss` over a batch; 0 where the strategy has none.

        The arguments are those of `draw`, its result, and the error of each target token.
        """
        loss = self.strategy.loss
        if loss is None:
            return jnp.zeros(())

        def one(key: Array, clip: Array, flow: Array | None, split: TokenSplit, errors: Array) -> Array:
            return loss(MaskInput(key, self.grid, self.mask, clip, flow, params), split, errors)

        with jax.named_scope("mask_loss"):
            return jax.vmap(one)(keys, clips, flow, split, jax.lax.stop_gradient(errors)).mean()

    def flow_of(
        self,
        flow_params: Mapping[str, Any],
        key: Key[Array, ""],
        clip: UInt8[Array, "T H W 3"],
        stored: Float[Array, "..."] | None,
        scan: bool = False,
    ) -> Float[Array, "P H W xy=2"] | None:
        """The flow that one clip's mask needs, in the direction it needs; None where it needs none.

        For `scan` see `clip_flow`.
        """
        if not self.mask.needs_flow:
            return None
        base = base_frame(key, self.grid.frames, self.mask)
        with jax.named_scope("flow"):
            if self.flow.source == "raft":
                return clip_flow(
                    flow_params,
                    clip,
                    base,
                    iters=self.flow.iters,
                    size=self.flow.size,
                    dtype=jnp.dtype(self.flow.dtype),
                    direction=self.mask.direction,
                    scan=scan,
                )
            if stored is None or self.mask.base_frame != "random":
                return stored
            source, target = neighbour_pairs(self.grid.frames, base, self.mask.direction)
            return jnp.where((source < target).reshape(-1, 1, 1, 1), stored[0], stored[1])

    def details(
        self,
        flow_params: Mapping[str, Any],
        key: Key[Array, ""],
        clip: UInt8[Array, "T H W 3"],
        stored: Float[Array, "..."] | None,
        params: Any = None,
    ) -> "MaskDetails":
        """What pictures show of one clip's mask; `params` are the strategy's own."""
        grid = self.grid
        flow = self.flow_of(flow_params, key, clip, stored, scan=True)
        ask = MaskInput(key, grid, self.mask, clip, flow, params)
        split = draw_mask(ask)
        base = jnp.asarray(base_frame(key, grid.frames, self.mask), jnp.int32)
        if self.strategy.volume is not None:
            volume = self.strategy.volume(ask)
        else:
            shown = jnp.zeros((grid.tokens, 1)).at[split.visible].set(1.0)
            volume = unpatchify(jnp.broadcast_to(shown, (grid.tokens, grid.cube_values)), grid)[..., 0]
        frames = jnp.zeros((grid.frames, grid.height, grid.width, 2))
        if flow is not None:
            pair = jnp.arange(grid.frames - 1, dtype=jnp.int32)
            frames = frames.at[pair + (pair >= base).astype(jnp.int32)].set(flow)
        return MaskDetails(split, base, frames, volume)


class MaskDetails(NamedTuple):
    """One clip's mask and how it was made."""

    split: TokenSplit
    base: Int[Array, ""]
    flow: Float[Array, "T H W xy=2"]
    """The flow between each frame and its neighbour nearer the base frame; zero for the base frame."""
    volume: Float[Array, "T H W"]


def build_mask_step(config: ConfigDict) -> MaskStep:
    """The masking step that config.clip, config.mask and config.flow describe.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    clip, model, flow = config.clip, config.model, config.flow
    grid = TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch)
    options = MaskOptions(**config.mask)
    visible_per_tubelet(options.ratio, grid)
    parse_dtype("flow.dtype", flow.dtype)
    return MaskStep(grid, options, FlowOptions(flow.source, flow.iters, flow.size, flow.dtype, flow.tvl1_fast))


def flow_spec(config: ConfigDict, masks: MaskStep) -> FlowSpec | None:
    """What flow the data workers are to compute or read."""
    source = masks.flow.source
    if source not in ("tvl1", "stored") or not masks.mask.needs_flow:
        return None
    base = {"middle": masks.grid.frames // 2, "first": 0, "random": None}[masks.mask.base_frame]
    root, folder = flow_folders(config)
    return FlowSpec(base, masks.mask.direction, masks.flow.tvl1_fast, source, root, folder)


def find_clips(config: ConfigDict) -> VideoList:
    """The videos that a pre-training config names, the procedural ones with their flow if it is read.

    Raises:
      MgmaeError: see `find_videos`; or a field of the masks has a value that cannot work.
    """
    return find_videos(config, flow=build_mask_step(config).reads_stored_flow)


def open_clips(
    config: ConfigDict,
    masks: MaskStep,
    videos: VideoList,
    first: int,
    on_bad: Callable[[str, str], None],
    spec: BatchSpec,
) -> TrainBatches:
    """This process's batches from step `first` on; `spec` is `loop.batch_spec`, or another composition."""
    return pretrain_batches(
        videos,
        ClipSpec(config.clip.frames, config.clip.stride, config.clip.size),
        spec,
        start_step=first,
        flow=flow_spec(config, masks),
        on_bad=on_bad,
    )
