"""The masking step: from a batch of clips to their tokens, by flow and strategy, inside the train step."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import clip_flow
from mgmae_jax.flow.packed import PackedFlow, given_flow, one_way, read_packed
from mgmae_jax.masking.presets import fill_preset
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.masking.strategies import STRATEGIES, MaskInput, MaskOptions, Strategy, base_frame, draw_mask, points_of
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, unpatchify
from mgmae_jax.runtime.config_checks import parse_dtype


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """Where the flow comes from (config.flow).

    Args:
      source: "raft", RAFT-small inside the step; "tvl1" and "dis", Dual TV-L1 and DIS in the data workers; "stored",
        read by them from files beside the videos; "none".
      iters: number of RAFT's updates.
      size: side in pixels of the frames that RAFT processes; None means the clip's own size.
      dtype: the dtype of RAFT's convolutions.
      tvl1_fast: see `data.host_flow.host_flow`.
    """

    source: Literal["raft", "tvl1", "dis", "stored", "none"] = "raft"
    iters: int = 6
    size: int | None = None
    dtype: str = "float32"
    tvl1_fast: bool = True

    def __post_init__(self) -> None:
        if self.source not in (choices := ("raft", "tvl1", "dis", "stored", "none")):
            raise ConfigError("flow.source", self.source, "one of " + ", ".join(choices))
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
            want = f"raft, tvl1, dis or stored, one of which mask.strategy={self.mask.strategy} needs"
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
    ) -> Float[Array, "B P h w xy=2"] | None:
        """The flow that the masks of a batch need; None where they need none.

        Args:
          flow_params: RAFT's parameters, or an empty dict if RAFT does not run.
          batch: "clip" uint8 [B, T, H, W, 3], and with TV-L1 or DIS "flow" float32 [B, T - 1, H, W, 2], or
            [B, 2, T - 1, H, W, 2] (both directions) if the base frame is random; with stored flow see `given_flow`.
          keys: the keys of the masks, one per clip.
        """

        def one(key: Array, clip: Array, given: Any) -> Array | None:
            return self.flow_of(flow_params, key, clip, given)

        return jax.vmap(one)(keys, batch["clip"], given_flow(batch))

    def draw(
        self,
        params: Any,
        clips: UInt8[Array, "B T H W 3"],
        flow: Float[Array, "B P h w xy=2"] | None,
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
        flow: Float[Array, "B P h w xy=2"] | None,
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
        given: Any,
        scan: bool = False,
    ) -> Float[Array, "P h w xy=2"] | None:
        """The flow that one clip's mask needs, in the direction and at the points it needs; None where it needs none.

        For `given` see `given_flow`, for `scan` see `clip_flow`.
        """
        if not self.mask.needs_flow:
            return None
        base = base_frame(key, self.grid.frames, self.mask)
        points = points_of(self.grid, self.mask) if self.mask.follows_points else None
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
                    points=points,
                    scan=scan,
                )
            if given is not None and self.mask.base_frame == "random":
                source, target = neighbour_pairs(self.grid.frames, base, self.mask.direction)
                given = one_way(given, source < target)
            if isinstance(given, PackedFlow):
                return read_packed(given, self.grid.height, self.grid.width, points)
            flow: Array | None = given
            return flow

    def details(
        self,
        flow_params: Mapping[str, Any],
        key: Key[Array, ""],
        clip: UInt8[Array, "T H W 3"],
        given: Any,
        params: Any = None,
    ) -> "MaskDetails":
        """What pictures show of one clip's mask; `params` are the strategy's own."""
        grid = self.grid
        flow = self.flow_of(flow_params, key, clip, given, scan=True)
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
            shown = resample_cells(flow, grid.height, grid.width)
            frames = frames.at[pair + (pair >= base).astype(jnp.int32)].set(shown)
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
    config = fill_preset(config.copy_and_resolve_references())
    clip, model, flow = config.clip, config.model, config.flow
    grid = TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch)
    options = MaskOptions(**config.mask)
    visible_per_tubelet(options.ratio, grid)
    if options.follows_points:
        points_of(grid, options)
    parse_dtype("flow.dtype", flow.dtype)
    return MaskStep(grid, options, FlowOptions(flow.source, flow.iters, flow.size, flow.dtype, flow.tvl1_fast))
