"""The masking step: from a batch of clips to their tokens, by flow and strategy, inside the train step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import clip_flow
from mgmae_jax.flow.packed import PackedFlow, given_flow, one_way, read_packed
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions, Strategy, base_frame
from mgmae_jax.masking.motion import points_of
from mgmae_jax.masking.presets import fill_preset
from mgmae_jax.masking.strategies import draw_mask, find_strategy
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, normalise_pixels, patchify, unit_range, unpatchify
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


class MaskBatch(NamedTuple):
    """The fields of `MaskInput` that differ from clip to clip, for a batch, and the strategy's own parameters."""

    keys: Key[Array, "B"]
    clips: UInt8[Array, "B T H W 3"]
    flow: Float[Array, "B P h w xy=2"] | None
    tokens: Float[Array, "B N D"] | None
    params: Any


@dataclasses.dataclass(frozen=True)
class MaskStep:
    """Everything that the masking step consists of.

    Raises:
      ConfigError: the mask needs flow, but there is none; or its options cannot work.
    """

    grid: TokenGrid
    mask: MaskOptions
    flow: FlowOptions

    def __post_init__(self) -> None:
        if self.needs_flow and self.flow.source == "none":
            want = f"raft, tvl1, dis or stored, one of which mask.strategy={self.mask.strategy} needs"
            raise ConfigError("flow.source", "none", want)

    @property
    def strategy(self) -> Strategy:
        """The strategy of `mask.strategy`."""
        return find_strategy(self.grid, self.mask)

    @property
    def needs_flow(self) -> bool:
        """Whether the strategy reads the flow."""
        return self.strategy.needs_flow

    @property
    def points(self) -> tuple[int, int] | None:
        """How many points down and across the flow is read at; None for every pixel."""
        return points_of(self.grid, self.mask) if self.mask.follows_points else None

    @property
    def reads_stored_flow(self) -> bool:
        """Whether the flow is read from files."""
        return self.needs_flow and self.flow.source == "stored"

    @property
    def runs_raft(self) -> bool:
        """Whether RAFT runs in the step."""
        return self.needs_flow and self.flow.source == "raft"

    def init(self, key: Key[Array, ""], width: int) -> dict[str, Any]:
        """The strategy's own parameters, as {"mask": ...}; empty where it learns nothing.

        Args:
          key: the source of what is random in them.
          width: that of the tokens which the strategy sees (`MaskInput.tokens`).
        """
        init = self.strategy.init
        return {} if init is None else {"mask": init(key, self.grid, self.mask, width)}

    def __call__(self, flow_params: Mapping[str, Any], batch: Mapping[str, Array], keys: Key[Array, "B"]) -> TokenSplit:
        """Masks a batch where there is no model: `batch_flow`, then `draw`."""
        return self.draw(self.ask({}, batch["clip"], self.batch_flow(flow_params, batch, keys), keys))

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

    def ask(
        self,
        params: Mapping[str, Any],
        clips: UInt8[Array, "B T H W 3"],
        flow: Float[Array, "B P h w xy=2"] | None,
        keys: Key[Array, "B"],
    ) -> MaskBatch:
        """What the strategy may look at, for a batch.

        Args:
          params: the model's parameters, with the strategy's own as "mask"; an empty dict, or the latter alone, where
            there is no model.
          clips: the clips of the batch.
          flow: see `batch_flow`.
          keys: the keys of the masks, one per clip.
        """
        tokens = self._tokens(params, clips) if self.strategy.needs_tokens else None
        return MaskBatch(keys, clips, flow, tokens, params.get("mask"))

    def ask_one(
        self,
        params: Mapping[str, Any],
        clip: UInt8[Array, "T H W 3"],
        flow: Float[Array, "P h w xy=2"] | None,
        key: Key[Array, ""],
    ) -> MaskInput:
        """What the strategy may look at, for one clip; see `ask`."""
        tokens = self._tokens(params, clip[None])[0] if self.strategy.needs_tokens else None
        return MaskInput(key, self.grid, self.mask, clip, flow, params.get("mask"), tokens)

    def _tokens(self, params: Mapping[str, Any], clips: UInt8[Array, "B T H W 3"]) -> Float[Array, "B N D"]:
        """`MaskInput.tokens` of a batch."""
        with jax.named_scope("mask_tokens"):
            cubes = normalise_pixels(unit_range(patchify(clips, self.grid)))
            if "encoder" not in params:
                return cubes
            embed = jax.lax.stop_gradient(params["encoder"]["patch_embed"])
            tokens: Array = cubes @ embed["kernel"] + embed["bias"]
            return tokens

    def draw(self, asked: MaskBatch) -> TokenSplit:
        """The split of each clip of a batch (see `ask`), int32 [B, V] and [B, K]."""
        with jax.named_scope("mask"):
            split: TokenSplit = self._each(draw_mask, asked)
            return split

    def auxiliary_loss(self, asked: MaskBatch, split: TokenSplit, errors: Float[Array, "B K"]) -> Float[Array, ""]:
        """The mean of `Strategy.loss` over a batch; 0 where the strategy has none.

        Args:
          asked: see `ask`.
          split: what `draw` made of it.
          errors: the error of each target token.
        """
        loss = self.strategy.loss
        if loss is None:
            return jnp.zeros(())
        with jax.named_scope("mask_loss"):
            added: Array = self._each(loss, asked, split, jax.lax.stop_gradient(errors))
            return added.mean()

    def _each(self, function: Callable[..., Any], asked: MaskBatch, *more: Any) -> Any:
        """A function of one clip's `MaskInput`, and of more arrays, for every clip of a batch."""

        def one(key: Array, clip: Array, flow: Array | None, tokens: Array | None, *more: Any) -> Any:
            return function(MaskInput(key, self.grid, self.mask, clip, flow, asked.params, tokens), *more)

        return jax.vmap(one)(asked.keys, asked.clips, asked.flow, asked.tokens, *more)

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
        if not self.needs_flow:
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
                    points=self.points,
                    scan=scan,
                )
            if given is not None and self.mask.base_frame == "random":
                source, target = neighbour_pairs(self.grid.frames, base, self.mask.direction)
                given = one_way(given, source < target)
            if isinstance(given, PackedFlow):
                return read_packed(given, self.grid.height, self.grid.width, self.points)
            flow: Array | None = given
            return flow

    def details(
        self,
        flow_params: Mapping[str, Any],
        key: Key[Array, ""],
        clip: UInt8[Array, "T H W 3"],
        given: Any,
        params: Mapping[str, Any] | None = None,
    ) -> "MaskDetails":
        """What pictures show of one clip's mask; for `params` see `ask`."""
        grid = self.grid
        flow = self.flow_of(flow_params, key, clip, given, scan=True)
        ask = self.ask_one(params or {}, clip, flow, key)
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
    parse_dtype("flow.dtype", flow.dtype)
    return MaskStep(
        grid, MaskOptions(**config.mask), FlowOptions(flow.source, flow.iters, flow.size, flow.dtype, flow.tvl1_fast)
    )
