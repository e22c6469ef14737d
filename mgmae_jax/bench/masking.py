"""The masking step without the model: motion guided masks and their parts, next to masks that ignore motion.

And next to the order of work of the authors' program, which is what a preset saves against.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from mgmae_jax.bench.measure import Measurement, measure
from mgmae_jax.bench.moving_clips import moving_batch
from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import pair_flow
from mgmae_jax.flow.raft import init_params
from mgmae_jax.masking.presets import fill_preset, forget_preset
from mgmae_jax.masking.strategies import base_frame
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenSplit
from mgmae_jax.runtime.mesh import make_mesh, put_batch, put_replicated
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.train.masks import MaskStep, build_mask_step
from mgmae_jax.train.pretrain import Batch

VIDEOS = 168_913  # in Something-Something V2's training set; the learning rate depends on it, the time does not
COMPARED = ("paper", "fast")
"""The presets that are measured."""
Case = Callable[[int], Measurement]
"""Measures one program with the given number of repeats; picklable."""


def masking_cases(config: ConfigDict, sizes: Sequence[int] = (), updates: Sequence[int] = ()) -> list[Case]:
    """The rows of `mgmae bench masking`.

    Args:
      config: see configs/pretrain/common.py; a call works on `train.batch_size` clips.
      sizes: also measure the fast masks with the flow at each of these `flow.size`, in pixels.
      updates: and with each of these `flow.iters`; what is not given stays the preset's.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    raft = build_mask_step(with_masks(config, "motion")).runs_raft
    official = [functools.partial(measure_official, with_preset(with_masks(config, "motion"), "paper"))] if raft else []
    return [
        *official,
        *(case for preset in COMPARED for case in _motion_cases(config, preset)),
        *_sweep(config, sizes, updates),
        functools.partial(measure_masks, "tube", with_masks(config, "tube")),
        functools.partial(measure_masks, "random", with_masks(config, "random")),
    ]


def _motion_cases(config: ConfigDict, preset: str) -> list[Case]:
    """Motion guided masks by a preset, and their parts."""
    motion = with_preset(with_masks(config, "motion"), preset)
    return [functools.partial(measure_masks, f"motion, {preset}", motion), *part_cases(config, preset)]


def _sweep(config: ConfigDict, sizes: Sequence[int], updates: Sequence[int]) -> list[Case]:
    """The fast masks with other sizes and numbers of updates of their flow."""
    if not sizes and not updates:
        return []
    fast = with_preset(with_masks(config, "motion"), "fast")
    if not build_mask_step(fast).runs_raft:
        raise ConfigError("flow.source", fast.flow.source, "raft, which alone has sizes and updates to compare")
    cases: list[Case] = []
    for size, iters in itertools.product(sizes or [fast.flow.size or fast.clip.size], updates or [fast.flow.iters]):
        one = fast.copy_and_resolve_references()
        one.flow.size, one.flow.iters = size, iters
        build_mask_step(one)
        cases.append(functools.partial(measure_masks, f"motion, fast, {size} px, {iters} updates", one))
    return cases


def part_cases(config: ConfigDict, preset: str) -> list[Case]:
    """The parts of motion guided masking: the flow, if RAFT computes it in the step, and the masks from given flow."""
    motion = with_preset(with_masks(config, "motion"), preset)
    given = with_preset(with_masks(config, "motion", "tvl1"), preset)
    masks = functools.partial(measure_masks, f"masks of given flow, {preset}", given)
    if not build_mask_step(motion).runs_raft:
        return [masks]
    return [functools.partial(measure_flow, f"flow, {preset}", motion), masks]


def with_masks(config: ConfigDict, strategy: str, flow_source: str | None = None) -> ConfigDict:
    """The config with another masking strategy, and another flow source if one is given."""
    config = config.copy_and_resolve_references()
    config.mask.strategy = strategy
    config.flow.source = flow_source or config.flow.source
    return config


def with_preset(config: ConfigDict, preset: str) -> ConfigDict:
    """The config with the masks and the flow that a preset stands for, whatever it said of them."""
    config = config.copy_and_resolve_references()
    forget_preset(config)
    config.mask.preset = preset
    return fill_preset(config)


def measure_masks(name: str, config: ConfigDict, repeats: int) -> Measurement:
    """Measures the whole masking step that the config describes, jitted over a batch."""
    masks = build_mask_step(config)

    def step(carry: tuple[()], flow_params: Any, batch: Batch, key: Key[Array, ""]) -> tuple[tuple[()], TokenSplit]:
        return carry, masks(flow_params, batch, _keys(key, batch))

    return _measure(name, step, masks, config, repeats)


def measure_flow(name: str, config: ConfigDict, repeats: int) -> Measurement:
    """Measures the flow that the masking step of the config computes, jitted over a batch."""
    masks = build_mask_step(config)

    def step(carry: tuple[()], flow_params: Any, batch: Batch, key: Key[Array, ""]) -> tuple[tuple[()], Array | None]:
        flow = jax.vmap(lambda key, clip: masks.flow_of(flow_params, key, clip, None))
        return carry, flow(_keys(key, batch), batch["clip"])

    return _measure(name, step, masks, config, repeats)


def measure_official(config: ConfigDict, repeats: int) -> Measurement:
    """Measures the masking step in the order of the authors' program, jitted over a batch.

    The pairs of a clip go through RAFT one after another, and every frame is encoded anew in each pair that it is in;
    then maps of pixels are warped. All else is as here.
    """
    masks = build_mask_step(config)

    def step(carry: tuple[()], flow_params: Any, batch: Batch, key: Key[Array, ""]) -> tuple[tuple[()], TokenSplit]:
        keys = _keys(key, batch)
        source, target = neighbour_pairs(masks.grid.frames, base_frame(key, masks.grid.frames, masks.mask))
        pairs: list[Array] = []
        clips = batch["clip"]
        for one, other in zip(source, target, strict=True):
            if pairs:  # waits for the pair before, and keeps XLA from sharing what both compute
                clips, pairs[-1] = jax.lax.optimization_barrier((clips, pairs[-1]))
            frames = jnp.stack([clips[:, one], clips[:, other]], axis=1)
            pairs.append(jax.vmap(lambda frames: _pair(flow_params, frames, masks))(frames))
        return carry, masks.draw(None, clips, jnp.concatenate(pairs, axis=1), keys)

    return _measure("official order", step, masks, config, repeats)


@functools.partial(jax.jit, static_argnums=2)
def _pair(flow_params: Any, frames: Array, masks: MaskStep) -> Array:
    first, second = jnp.zeros(1, jnp.int32), jnp.ones(1, jnp.int32)
    options = masks.flow
    return pair_flow(flow_params, frames, first, second, iters=options.iters, size=options.size, dtype=options.dtype)


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
