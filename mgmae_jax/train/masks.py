"""The masking step: from a batch of clips to their tokens, by flow and strategy, inside the train step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import MIN_SIDE, clip_flow, clips_at_once
from mgmae_jax.flow.packed import PackedFlow, given_flow, one_way, read_packed
from mgmae_jax.flow.raft import CELL
from mgmae_jax.flow.whole_frame import whole_frame_flow
from mgmae_jax.masking.mask_input import DecoderMask, MaskInput, MaskOptions, Strategy, base_frame
from mgmae_jax.masking.motion import points_of
from mgmae_jax.masking.presets import fill_preset
from mgmae_jax.masking.strategies import DECODERS, draw_mask, find_strategy, hidden_targets
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.placement import over_parts, traced_platform
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, normalise_pixels, patchify, unit_range, unpatchify
from mgmae_jax.runtime.config_checks import parse_dtype


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """Where the flow comes from (config.flow).

    Args:
      source: "raft", RAFT-small inside the step; "tvl1" and "dis", Dual TV-L1 and DIS in the data workers; "stored",
        read by them from files beside the videos; "codec", made by them of the videos' motion vectors; "none".
      iters: number of RAFT's updates.
      size: side in pixels of the frames that RAFT processes; None means the clip's own size.
      dtype: the dtype of RAFT's convolutions.
      tvl1_fast: see `data.host_flow.host_flow`.
      whole_frame: with several views of a clip, RAFT runs once, on the whole frames squeezed to squares of `size`, and
        each view reads its crop of that flow.
    """

    source: Literal["raft", "tvl1", "dis", "stored", "codec", "none"] = "raft"
    iters: int = 6
    size: int | None = None
    dtype: str = "float32"
    tvl1_fast: bool = True
    whole_frame: bool = False

    def __post_init__(self) -> None:
        if self.source not in (choices := ("raft", "tvl1", "dis", "stored", "codec", "none")):
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
            want = f"raft, tvl1, dis, stored or codec, one of which mask.strategy={self.mask.strategy} needs"
            raise ConfigError("flow.source", "none", want)
        if (side := self.whole_frame_side) is not None:
            if self.mask.base_frame == "random":
                raise ConfigError("mask.base_frame", "random", "middle or first with flow.whole_frame=True")
            if self.both_ways:
                raise ConfigError("mask.occlusion", "consistency", "none with flow.whole_frame=True")
            if side % CELL or side < MIN_SIDE:
                want = f"a multiple of {CELL} from {MIN_SIDE} on with flow.whole_frame=True"
                raise ConfigError("flow.size", side, want)

    @property
    def strategy(self) -> Strategy:
        """The strategy of `mask.strategy`."""
        return find_strategy(self.grid, self.mask)

    @property
    def decoder_mask(self) -> DecoderMask | None:
        """That of `mask.decoder`; None where the strategy says what is predicted."""
        return DECODERS[self.mask.decoder]

    @property
    def needs_flow(self) -> bool:
        """Whether the strategy reads the flow."""
        return self.strategy.needs_flow

    @property
    def both_ways(self) -> bool:
        """Whether the strategy reads the flow of each pair both ways, see `MaskInput.flow`."""
        return self.needs_flow and self.strategy.reads_occlusion and self.mask.occlusion == "consistency"

    @property
    def given_both_ways(self) -> bool:
        """Whether flow that comes with the batch has both directions, [B, 2, T - 1, ...]."""
        return self.both_ways or self.mask.base_frame == "random"

    @property
    def points(self) -> tuple[int, int] | None:
        """How many points down and across the flow is read at; None for every pixel."""
        return points_of(self.grid, self.mask) if self.mask.follows_points else None

    @property
    def reads_stored_flow(self) -> bool:
        """Whether the flow is read from files."""
        return self.needs_flow and self.flow.source == "stored"

    @property
    def flow_on_grid(self) -> bool:
        """Whether the flow comes with the batch on a coarse grid of the video, see `flow.packed.PackedFlow`."""
        return self.needs_flow and self.flow.source in ("stored", "codec")

    @property
    def runs_raft(self) -> bool:
        """Whether RAFT runs in the step."""
        return self.needs_flow and self.flow.source == "raft"

    @property
    def whole_frame_side(self) -> int | None:
        """Pixels to a side of the whole frames that RAFT sees, once for all views; None if it sees each view."""
        return (self.flow.size or self.grid.height) if self.runs_raft and self.flow.whole_frame else None

    def given_whole_side(self, views: int) -> int | None:
        """That of the whole frames which come with a batch, if its clips have several views; None if none come."""
        return self.whole_frame_side if views > 1 else None

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
            [B, 2, T - 1, H, W, 2] (both directions) if `given_both_ways`; with stored flow see `given_flow`,
            with that of whole frames `share_flow`.
          keys: the keys of the masks, one per clip.
        """

        def one(key: Array, clip: Array, given: Any) -> Array | None:
            return self.flow_of(flow_params, key, clip, given)

        flow = jax.vmap(one)
        if self.runs_raft and "flow" not in batch and traced_platform() == "tpu":
            flow = over_parts(flow, len(keys), clips_at_once(self.grid, self.flow.size))
        return flow(keys, batch["clip"], given_flow(batch))

    def share_flow(self, flow_params: Mapping[str, Any], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Gives all views of a clip their part of one flow, if a batch has whole frames; else it is unchanged.

        Before the batch is divided into parts: the views of a clip, which follow each other, lie on one device.

        Args:
          flow_params: RAFT's parameters.
          batch: "whole" uint8 [clips, T, S, S, 3] and "whole_place" float32 [B, 2, 2], see `whole_frame_flow`; these
            are replaced by "flow" float32 [B, T - 1, h, w, 2].
        """
        rest = dict(batch)
        if "whole" not in rest:
            return rest
        frames, places = rest.pop("whole"), rest.pop("whole_place")
        clips = len(frames)

        def one(frames: Array, places: Array) -> Array:
            flow: Array = whole_frame_flow(
                flow_params,
                frames,
                places,
                base_frame(jax.random.key(0), self.grid.frames, self.mask),  # which is not random
                iters=self.flow.iters,
                height=self.grid.height,
                width=self.grid.width,
                dtype=jnp.dtype(self.flow.dtype),
                direction=self.mask.direction,
                points=self.points,
            )
            return flow

        each = jax.vmap(one)
        if traced_platform() == "tpu":
            each = over_parts(each, clips, clips_at_once(self.grid, frames.shape[2]))
        with jax.named_scope("flow"):
            flow = each(frames, places.reshape(clips, -1, 2, 2))
        return rest | {"flow": flow.reshape(-1, *flow.shape[2:])}

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
            tokens: Array = cubes @ embed["kernel"] + embed["bias"].reshape(1, 1, -1)
            return tokens

    def draw(self, asked: MaskBatch) -> TokenSplit:
        """The split of each clip of a batch (see `ask`), int32 [B, V] and [B, K]."""
        with jax.named_scope("mask"):
            split: TokenSplit = self._each(draw_mask, asked)
            return split

    def measured(self, split: TokenSplit) -> Bool[Array, "B K"] | None:
        """Which targets of a batch are in the loss; None for all of them; see `hidden_targets`."""
        return jax.vmap(lambda split: hidden_targets(split, self.grid, self.mask))(split)

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
            if self.flow.source == "raft" and given is None:
                return clip_flow(
                    flow_params,
                    clip,
                    base,
                    iters=self.flow.iters,
                    size=self.flow.size,
                    dtype=jnp.dtype(self.flow.dtype),
                    direction=self.mask.direction,
                    points=self.points,
                    both_ways=self.both_ways,
                    scan=scan,
                )
            ways = [given]
            if given is not None and self.given_both_ways:
                source, target = neighbour_pairs(self.grid.frames, base, self.mask.direction)
                ways = [one_way(given, way) for way in (source < target, target < source)[: 1 + self.both_ways]]
            if isinstance(given, PackedFlow):
                ways = [read_packed(way, self.grid.height, self.grid.width, self.points) for way in ways]
            flow: Array | None = jnp.concatenate(ways) if self.both_ways else ways[0]
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
            shown = resample_cells(flow[: grid.frames - 1], grid.height, grid.width)
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
    whole_frame = flow.get("whole_frame", False)  # which configs of older runs do not have
    options = FlowOptions(flow.source, flow.iters, flow.size, flow.dtype, flow.tvl1_fast, whole_frame)
    return MaskStep(grid, MaskOptions(**config.mask), options)
