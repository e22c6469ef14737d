"""The masking step without the model: motion guided masks and their parts, next to masks that ignore motion.

And next to the order of work of the authors' program, which is what a preset saves against.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from mgmae_jax.bench.agreement import visible_mask
from mgmae_jax.bench.measure import Compiled, Measurement, Program, compile_programs, measure
from mgmae_jax.bench.moving_clips import moving_batch
from mgmae_jax.bench.official import find_layout, measure_official_masks
from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import pair_flow
from mgmae_jax.flow.raft import init_params
from mgmae_jax.masking.mask_input import base_frame
from mgmae_jax.masking.presets import fill_preset, forget_preset
from mgmae_jax.masking.strategies import STRATEGIES
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenSplit
from mgmae_jax.runtime.mesh import make_mesh, put_batch, put_replicated
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.train.masks import MaskStep, build_mask_step
from mgmae_jax.train.pretrain import Batch

VIDEOS = 168_913  # in Something-Something V2's training set; the learning rate depends on it, the time does not
COMPARED = ("paper", "fast")
"""The presets that are measured."""
SHOWN = ("motion", "tube", "random")
"""The strategies that are measured if no others are named."""
LEAST_MASKS = 16
"""At least so many masks are compared with the paper's."""
Case = Callable[[int], list[Measurement]]
"""Measures programs in one process with the given number of repeats; picklable."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `mgmae bench masking` measures.

    Args:
      batches: clips of a call, over all devices; each is measured.
      strategies: names in `STRATEGIES`; tube masking is always measured, for the ratios to it.
      sizes: also measure the fast masks with the flow at each of these `flow.size`, in pixels.
      updates: and with each of these `flow.iters`; what is not given stays the preset's.
      official: also measure the PyTorch program of which this folder is a checkout.
    """

    batches: tuple[int, ...] = (2,)
    strategies: tuple[str, ...] = SHOWN
    sizes: tuple[int, ...] = ()
    updates: tuple[int, ...] = ()
    official: Path | None = None


def masking_cases(config: ConfigDict, sweep: Sweep, flow_params: Mapping[str, Any] | None = None) -> list[Case]:
    """The rows of `mgmae bench masking`.

    Args:
      config: see configs/pretrain/common.py.
      sweep: what to measure.
      flow_params: RAFT's, as numpy arrays; random ones if None, and then no masks are compared with the paper's.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    row = functools.partial(_Row, batches=sweep.batches, flow_params=flow_params)
    cases: list[Case] = []
    for strategy in dict.fromkeys([*sweep.strategies, "tube"]):
        chosen = with_masks(config, strategy)
        if not STRATEGIES[strategy].needs_flow:
            build_mask_step(chosen)
            cases.append(row(strategy, chosen, _masks))
            continue
        preset_configs = {preset: with_preset(chosen, preset) for preset in COMPARED}
        own: list[Case] = [row(f"{strategy}, {preset}", one, _masks) for preset, one in preset_configs.items()]
        if strategy == "motion":
            own = _with_parts(own, config, row)
        cases += own
    if sweep.official:
        find_layout(sweep.official, flow=True)
        paper = with_preset(with_masks(config, "motion"), "paper")
        cases.append(functools.partial(measure_official_masks, sweep.official, paper, sweep.batches))
    return [*cases, *_swept(config, sweep, row)]


def _with_parts(motion: list[Case], config: ConfigDict, row: Callable[..., Case]) -> list[Case]:
    """Motion guided masks by each preset, followed by their parts; before them the authors' order of work."""
    paper = with_preset(with_masks(config, "motion"), "paper")
    order = [row("official order", paper, _official_order)] if build_mask_step(paper).runs_raft else []
    parts = [[whole, *part_cases(config, preset, row)] for whole, preset in zip(motion, COMPARED, strict=True)]
    return [*order, *itertools.chain.from_iterable(parts)]


def _swept(config: ConfigDict, sweep: Sweep, row: Callable[..., Case]) -> list[Case]:
    """The fast masks with other sizes and numbers of updates of their flow."""
    if not sweep.sizes and not sweep.updates:
        return []
    fast = with_preset(with_masks(config, "motion"), "fast")
    if not build_mask_step(fast).runs_raft:
        raise ConfigError("flow.source", fast.flow.source, "raft, which alone has sizes and updates to compare")
    cases: list[Case] = []
    sizes, updates = sweep.sizes or (fast.flow.size or fast.clip.size,), sweep.updates or (fast.flow.iters,)
    for size, iters in itertools.product(sizes, updates):
        one = fast.copy_and_resolve_references()
        one.flow.size, one.flow.iters = size, iters
        build_mask_step(one)
        cases.append(row(f"motion, fast, {size} px, {iters} updates", one, _masks))
    return cases


def part_cases(config: ConfigDict, preset: str, row: Callable[..., Case] | None = None) -> list[Case]:
    """The parts of motion guided masking: the flow, if RAFT computes it in the step, and the masks from given flow.

    Args:
      config: see configs/pretrain/common.py.
      preset: the masks' preset.
      row: makes a case of a name, a config and a function; by default for `train.batch_size` clips.
    """
    row = functools.partial(row or functools.partial(_Row, batches=(config.train.batch_size,)), compared=False)
    motion = with_preset(with_masks(config, "motion"), preset)
    masks = row(f"masks of given flow, {preset}", with_preset(with_masks(config, "motion", "tvl1"), preset), _masks)
    if not build_mask_step(motion).runs_raft:
        return [masks]
    return [row(f"flow, {preset}", motion, _flow), masks]


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


@dataclasses.dataclass(frozen=True)
class _Row:
    """Measures one function of the masking step, jitted over batches; see `Case`.

    Args:
      name: the row's name.
      config: its config.
      function: (masks, the strategy's parameters, RAFT's, batch, keys) -> the result.
      batches: clips of a call.
      flow_params: see `masking_cases`.
      compared: whether it makes masks that are compared with the paper's.
    """

    name: str
    config: ConfigDict
    function: Callable[[MaskStep, Mapping[str, Any], Any, Batch, Key[Array, "B"]], Any]
    batches: tuple[int, ...]
    flow_params: Mapping[str, Any] | None = None
    compared: bool = True

    def __call__(self, repeats: int) -> list[Measurement]:
        masks = build_mask_step(self.config)

        def step(carry: tuple[()], own: Any, flow_params: Any, batch: Batch, key: Key[Array, ""]) -> tuple[Any, Any]:
            keys = per_example(stream(key, 0, "mask"), 0, batch["clip"].shape[0])
            return carry, self.function(masks, own, flow_params, batch, keys)

        programs = []
        for clips in sorted(self.batches):
            config = self.config.copy_and_resolve_references()
            config.train.batch_size = clips
            own = put_replicated(masks.init(jax.random.key(config.seed), masks.grid.cube_values), _mesh(config))
            programs.append(Program(self.name, step, (own, *place_inputs(masks, config, self.flow_params)), clips))
        compiled = compile_programs(programs, ())
        found = measure(compiled, (), repeats)
        if not self.compared or not masks.needs_flow or (masks.runs_raft and self.flow_params is None):
            return found
        return [
            dataclasses.replace(one, visible=self._visible(masks, program))
            for one, program in zip(found, compiled, strict=True)
        ]

    def _visible(self, masks: MaskStep, compiled: Compiled) -> np.ndarray:
        """Which tokens are visible, bool [K, N], in masks of the bench's clips."""
        mesh, rows = _mesh(self.config), []
        for draw in range(-(-LEAST_MASKS // compiled.program.clips)):
            key = put_replicated(jax.random.key(self.config.seed + draw), mesh)
            split = compiled.call((), *compiled.program.args[:-1], key)[1]
            rows.append(np.asarray(visible_mask(split.visible, masks.grid)))
        return np.concatenate(rows)


def _masks(
    masks: MaskStep, own: Mapping[str, Any], flow_params: Any, batch: Batch, keys: Key[Array, "B"]
) -> TokenSplit:
    """The whole masking step."""
    return masks.draw(masks.ask(own, batch["clip"], masks.batch_flow(flow_params, batch, keys), keys))


def _flow(
    masks: MaskStep, own: Mapping[str, Any], flow_params: Any, batch: Batch, keys: Key[Array, "B"]
) -> Array | None:
    """The flow that the masking step computes."""
    return masks.batch_flow(flow_params, batch, keys)


def _official_order(
    masks: MaskStep, own: Mapping[str, Any], flow_params: Any, batch: Batch, keys: Key[Array, "B"]
) -> TokenSplit:
    """The masking step in the order of the authors' program.

    The pairs of a clip go through RAFT one after another, and every frame is encoded anew in each pair that it is in;
    then maps of pixels are warped. All else is as here.
    """
    clips, grid = batch["clip"], masks.grid

    def one_pair(carry: tuple[Array, Array], pair: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        # Waits for the pair before, and keeps XLA from sharing what both compute.
        clips, _ = jax.lax.optimization_barrier(carry)
        flow = jax.vmap(lambda clip: _pair(flow_params, clip, pair, masks))(clips)
        return (clips, flow), flow

    pairs = neighbour_pairs(grid.frames, base_frame(keys[0], grid.frames, masks.mask))
    before = jnp.zeros((len(clips), grid.height, grid.width, 2))
    # Convolutions inside a loop are slow on a CPU; an accelerator's program would compile for long without one.
    unroll = len(pairs[0]) if jax.default_backend() == "cpu" else 1
    _, flow = jax.lax.scan(one_pair, (clips, before), tuple(map(jnp.asarray, pairs)), unroll=unroll)
    return masks.draw(masks.ask(own, clips, jnp.moveaxis(flow, 0, 1), keys))


@functools.partial(jax.jit, static_argnums=3)
def _pair(flow_params: Any, clip: Array, pair: tuple[Array, ...], masks: MaskStep) -> Array:
    """Flow between two frames of a clip, of which only these are looked at."""
    frames = jnp.stack([clip[pair[0]], clip[pair[1]]])
    options = masks.flow
    first, second = jnp.zeros(1, jnp.int32), jnp.ones(1, jnp.int32)
    return pair_flow(flow_params, frames, first, second, iters=options.iters, size=options.size, dtype=options.dtype)[0]


def place_inputs(
    masks: MaskStep, config: ConfigDict, flow_params: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Array], Key[Array, ""]]:
    """Puts the step's inputs other than its state on the devices.

    Args:
      masks: the masking step.
      config: `train.batch_size` clips are made.
      flow_params: RAFT's; random ones if None.

    Returns:
      RAFT's parameters, a batch, a key.
    """
    mesh = _mesh(config)
    key = jax.random.key(config.seed)
    if not masks.runs_raft:
        flow_params = {}
    elif flow_params is None:
        flow_params = jax.jit(init_params)(key)
    flow_params, key = put_replicated((flow_params, key), mesh)
    return flow_params, put_batch(moving_batch(masks, config.train.batch_size, config.seed), mesh), key


def _mesh(config: ConfigDict) -> jax.sharding.Mesh:
    return make_mesh(config.mesh.fsdp)
