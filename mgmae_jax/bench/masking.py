"""The masking step without the model: motion guided masks and their parts, next to masks that ignore motion."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from mgmae_jax.bench.measure import Measurement, measure
from mgmae_jax.bench.moving_clips import moving_batch
from mgmae_jax.flow.raft import init_params
from mgmae_jax.ops.tokens import TokenSplit
from mgmae_jax.runtime.mesh import make_mesh, put_batch, put_replicated
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.train.masks import MaskStep, build_mask_step
from mgmae_jax.train.pretrain import Batch

Case = Callable[[int], Measurement]
"""Measures one program with the given number of repeats; picklable."""


def masking_cases(config: ConfigDict) -> list[Case]:
    """The rows of `mgmae bench masking`.

    Args:
      config: see configs/pretrain/common.py; a call works on `train.batch_size` clips.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    return [
        functools.partial(measure_masks, "motion", with_masks(config, "motion")),
        *part_cases(config),
        functools.partial(measure_masks, "tube", with_masks(config, "tube")),
        functools.partial(measure_masks, "random", with_masks(config, "random")),
    ]


def part_cases(config: ConfigDict) -> list[Case]:
    """The parts of motion guided masking: the flow, if RAFT computes it in the step, and the masks from given flow."""
    motion = with_masks(config, "motion")
    masks = functools.partial(measure_masks, "masks of given flow", with_masks(config, "motion", "tvl1"))
    return [functools.partial(measure_flow, motion), masks] if build_mask_step(motion).runs_raft else [masks]


def with_masks(config: ConfigDict, strategy: str, flow_source: str | None = None) -> ConfigDict:
    """The config with another masking strategy, and another flow source if one is given."""
    config = config.copy_and_resolve_references()
    config.mask.strategy = strategy
    config.flow.source = flow_source or config.flow.source
    return config


def measure_masks(name: str, config: ConfigDict, repeats: int) -> Measurement:
    """Measures the whole masking step that the config describes, jitted over a batch."""
    masks = build_mask_step(config)

    def step(carry: tuple[()], flow_params: Any, batch: Batch, key: Key[Array, ""]) -> tuple[tuple[()], TokenSplit]:
        return carry, masks(flow_params, batch, _keys(key, batch))

    return _measure(name, step, masks, config, repeats)


def measure_flow(config: ConfigDict, repeats: int) -> Measurement:
    """Measures the flow that the masking step of the config computes, jitted over a batch."""
    masks = build_mask_step(config)

    def step(carry: tuple[()], flow_params: Any, batch: Batch, key: Key[Array, ""]) -> tuple[tuple[()], Array | None]:
        flow = jax.vmap(lambda key, clip: masks.flow_of(flow_params, key, clip, None))
        return carry, flow(_keys(key, batch), batch["clip"])

    return _measure("flow", step, masks, config, repeats)


def place_inputs(masks: MaskStep, config: ConfigDict) -> tuple[Any, dict[str, Array], Key[Array, ""]]:
    """Puts the step's inputs other than its state on the devices: RAFT's parameters (random ones), a batch, a key."""
    mesh = make_mesh(config.mesh.fsdp)
    key = jax.random.key(config.seed)
    flow_params = jax.jit(init_params)(key) if masks.runs_raft else {}
    flow_params, key = put_replicated((flow_params, key), mesh)
    return flow_params, put_batch(moving_batch(masks, config.train.batch_size, config.seed), mesh), key


def _keys(key: Key[Array, ""], batch: Batch) -> Key[Array, "B"]:
    return per_example(stream(key, 0, "mask"), 0, batch["clip"].shape[0])


def _measure(
    name: str, step: Callable[..., tuple[Any, Any]], masks: MaskStep, config: ConfigDict, repeats: int
) -> Measurement:
    return measure(name, step, (), place_inputs(masks, config), clips=config.train.batch_size, repeats=repeats)
