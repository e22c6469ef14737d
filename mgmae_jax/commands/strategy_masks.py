"""One clip's masks by several strategies at several ratios, from one flow in both directions."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.data.pretrain_clips import FlowSpec
from mgmae_jax.datasets.find import flow_folders
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.flow.clip_flow import pair_flow
from mgmae_jax.flow.packed import PackedFlow, read_packed
from mgmae_jax.masking.mask_input import base_frame
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.ops.pairs import adjacent_pairs, neighbour_pairs
from mgmae_jax.train.masks import MaskStep, build_mask_step


def mask_steps(config: ConfigDict, strategies: Sequence[str], ratios: Sequence[float]) -> list[list[MaskStep]]:
    """The masking step of each strategy, for each ratio; the rest of its options are those of the config.

    Raises:
      MgmaeError: a strategy needs flow where there is none, or cannot work with the options or a ratio.
    """

    def step(strategy: str, ratio: float) -> MaskStep:
        changed = config.copy_and_resolve_references()
        changed.mask.strategy, changed.mask.ratio = strategy, ratio
        try:
            return build_mask_step(changed)
        except ConfigError as error:
            raise MgmaeError(f"--strategies {strategy} --ratios {ratio:g}: {error}") from error

    return [[step(strategy, ratio) for strategy in strategies] for ratio in ratios]


def both_ways(config: ConfigDict, masks: MaskStep) -> FlowSpec | None:
    """What to compute or read on the host for flow in both directions; None where RAFT runs, or there is no flow."""
    source = masks.flow.source
    if source == "raft" or source == "none":  # apart, so that the types of what is left are known
        return None
    root, folder = flow_folders(config)
    return FlowSpec(None, fast=masks.flow.tvl1_fast, source=source, root=root, folder=folder)


def raft_both_ways(
    flow_params: Mapping[str, Any], clip: UInt8[np.ndarray, "T H W 3"], masks: MaskStep
) -> Float[np.ndarray, "way=2 P H W xy=2"]:
    """The flow of every pair of neighbouring frames of a clip, forwards and backwards, by RAFT-small.

    Raises:
      ConfigError: the clip is too small for RAFT.
    """

    @jax.jit
    def flow(params: Any, clip: Array) -> Array:
        source, target = map(np.ravel, adjacent_pairs(len(clip)))
        options = masks.flow
        return pair_flow(
            params, clip, source, target, iters=options.iters, size=options.size, dtype=options.dtype, scan=True
        )

    found = np.asarray(flow(flow_params, jnp.asarray(clip)))
    return found.reshape(2, -1, *found.shape[1:])


def read_both_ways(given: PackedFlow, masks: MaskStep) -> Float[np.ndarray, "way=2 P H W xy=2"]:
    """As `raft_both_ways`, of stored flow in both directions."""
    ways = [given._replace(values=given.values[way], span=given.span[way]) for way in (0, 1)]
    return np.stack([np.asarray(read_packed(way, masks.grid.height, masks.grid.width)) for way in ways])


def visible_tokens(
    masks: MaskStep,
    clip: UInt8[np.ndarray, "T H W 3"],
    flow: Float[np.ndarray, "way=2 P H W xy=2"] | None,
    key: Key[Array, ""],
) -> Bool[np.ndarray, "t h w"]:
    """Which tokens of a clip are visible by one strategy; one that learns has the parameters that it starts from.

    Args:
      masks: the masking step.
      clip: the frames.
      flow: in pixels, forwards and backwards; None where the strategy needs none.
      key: the mask's key.
    """
    grid = masks.grid

    @jax.jit
    def visible(key: Array, clip: Array, both: Any) -> Array:
        toward = None
        if masks.needs_flow:
            base = base_frame(key, grid.frames, masks.mask)
            source, target = neighbour_pairs(grid.frames, base, masks.mask.direction)
            forwards = jnp.asarray(source < target).reshape(-1, 1, 1, 1)
            toward = jnp.where(forwards, both[0], both[1])
            if masks.both_ways:
                toward = jnp.concatenate([toward, jnp.where(forwards, both[1], both[0])])
        asked = masks.ask_one(masks.init(key, grid.cube_values), clip, toward, key)
        return jnp.zeros(grid.tokens, bool).at[draw_mask(asked).visible].set(True)

    found = visible(key, jnp.asarray(clip), flow if masks.needs_flow else None)
    return np.asarray(found).reshape(grid.tubelets, grid.rows, grid.columns)
