"""From a clip to the picture of its masks by several strategies."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from mgmae_jax.commands.pictures import FLOW_SOURCES
from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import base_frame
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.ops.tokens import TokenSplit
from mgmae_jax.show.strategies import ShownMask, strategies_strip
from mgmae_jax.train.masks import MaskStep, build_mask_step


def strategy_steps(config: ConfigDict, names: Sequence[str]) -> dict[str, MaskStep]:
    """The masking step of each strategy, with the options that the config has for all of them.

    Raises:
      ConfigError: a strategy cannot work with them.
    """
    steps = {}
    for name in names:
        own = config.copy_and_resolve_references()
        own.mask.strategy = name
        try:
            steps[name] = build_mask_step(own)
        except ConfigError as error:
            raise ConfigError(error.field, error.value, f"{error.want} (for --strategies {name})") from error
    return steps


def flow_reader(steps: Mapping[str, MaskStep]) -> MaskStep:
    """The step that says what flow all of them need; any of them if none needs any."""
    return max(steps.values(), key=lambda step: (step.both_ways, step.needs_flow))


def strategies_picture(
    steps: Mapping[str, MaskStep],
    flow_params: Mapping[str, Any],
    clip: np.ndarray,
    given_flow: Any,
    key: Key[Array, ""],
    title: str,
) -> np.ndarray:
    """Masks a clip by each strategy from one key and, where they need it, one flow, computed once.

    A strategy that learns is shown as it begins.

    Args:
      steps: by name, as from `strategy_steps`.
      flow_params: RAFT's parameters, or an empty dict if it does not run.
      clip: uint8 [T, H, W, 3].
      given_flow: the clip's flow, as in a batch, for the step that is `flow_reader`; None if it computes it or needs
        none.
      key: the masks' key.
      title: the beginning of the caption.

    Returns:
      A picture, uint8 [rows, columns, 3].
    """
    reader = flow_reader(steps)
    flow = jax.jit(reader.flow_of)(flow_params, key, clip, given_flow) if reader.needs_flow else None
    grid = reader.grid
    masks = {}
    for name, step in steps.items():
        own = None if flow is None or not step.needs_flow else flow if step.both_ways else flow[: len(clip) - 1]
        split = jax.device_get(jax.jit(_split, static_argnums=0)(step, clip, own, key))
        shown, target = (np.isin(np.arange(grid.tokens), tokens) for tokens in split)
        cells = (grid.tubelets, grid.rows, grid.columns)
        masks[name] = ShownMask(shown.reshape(cells), target.reshape(cells))
    caption = f"{title}. Masks of ratio {reader.mask.ratio:g} from one key; hidden cubes are grey"
    if not all((mask.visible | mask.target).all() for mask in masks.values()):
        caption += ", dark where they are not predicted either"
    caption += f". Flow: {FLOW_SOURCES[reader.flow.source]}." if reader.needs_flow else "."
    base = int(base_frame(key, grid.frames, reader.mask)) if reader.needs_flow else None
    return strategies_strip(clip, masks, patch=grid.patch, tubelet=grid.tubelet, base=base, caption=caption)


def _split(step: MaskStep, clip: Array, flow: Array | None, key: Key[Array, ""]) -> TokenSplit:
    """The mask of a clip where there is no model."""
    return draw_mask(step.ask_one(step.init(key, step.grid.cube_values), clip, flow, key))
