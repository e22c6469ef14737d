"""A whole training run of the flow network: from a config and a workdir to checkpoints, metrics and best weights."""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import MIN_SIDE
from mgmae_jax.flow.raft import CELL
from mgmae_jax.flow.synthetic_banks import make_banks
from mgmae_jax.flow.synthetic_batches import synthetic_batches
from mgmae_jax.flow.synthetic_device import bank_arrays, draw_pairs
from mgmae_jax.flow.synthetic_scene import Scene
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.runtime.metrics import MetricWriter
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.runtime.rng import stream
from mgmae_jax.runtime.run_info import check_same_config, write_run_info
from mgmae_jax.train.flow import FlowTraining
from mgmae_jax.train.flow_validation import FlowValidation
from mgmae_jax.train.from_config import check_least, parse_dtype
from mgmae_jax.train.loop import Run, train
from mgmae_jax.train.optim import cosine_schedule, muon_direction
from mgmae_jax.train.state import TrainState, abstract_state, make_sharded

MACHINE_FIELDS = ("data.threads", "train.log_every", "checkpoint", "compile_cache", "validate", "init")
_LEAST = {
    "seed": 0,
    "optim.min_lr": 0,
    "optim.weight_decay": 0,
    "train.log_every": 1,
    "train.max_bad_steps": 1,
    "data.threads": 1,
    "validate.every": 1,
    "validate.pairs": 1,
    "validate.iters": 1,
    "checkpoint.every": 1,
    "checkpoint.keep": 1,
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of the curriculum.

    Args:
      first_step: at which it starts.
      end_step: at which it ends.
      first_pair: index of its first pair; pairs are not repeated.
      size: side of its frames in pixels.
      batch_size: pairs of a step.
      iters: RAFT's updates in the loss.
    """

    first_step: int
    end_step: int
    first_pair: int
    size: int
    batch_size: int
    iters: int


def run_flow_training(
    config: ConfigDict,
    workdir: Path,
    start_params: Mapping[str, Any] | None,
    keep_best: Callable[[Mapping[str, Any], dict[str, float], int], None],
    real_pairs: Mapping[str, Mapping[str, np.ndarray]],
    argv: Sequence[str],
) -> None:
    """Trains RAFT-small, or goes on with the run that the workdir holds.

    Args:
      config: resolved, see configs/flow/raft_small.py.
      workdir: for config.json, run.json, metrics.jsonl, validation/ and checkpoints/.
      start_params: to begin from; random ones if None.
      keep_best: called in the first process with (parameters, scores, step) where the validation is the best so far.
      real_pairs: by name, to be validated on as well; see `FlowValidation`.
      argv: the command, for run.json.

    Raises:
      MgmaeError: anything that the user can mend; the message says how.
    """
    # 1. What is to be done, and may it be done here?
    stages = read_stages(config)
    check_flow_config(config)
    total = stages[-1].end_step
    mesh = make_mesh()
    for stage in stages:
        if stage.batch_size % mesh.size:
            want = f"multiples of the number of devices, which is {mesh.size}"
            raise ConfigError("train.batch_size", config.train.batch_size, want)
    check_same_config(workdir, config, MACHINE_FIELDS)
    if is_primary():
        write_run_info(workdir, config, argv)
    trainings = [build_flow_training(config, stage, total) for stage in stages]

    # 2. The state: new, or from the last checkpoint.
    key = jax.random.key(config.seed)
    with (
        Checkpoints(workdir / FOLDER, every=config.checkpoint.every, keep=config.checkpoint.keep) as checkpoints,
        MetricWriter(workdir, is_primary()) as writer,
        MetricWriter(workdir / "validation", is_primary()) as validation_writer,
    ):
        start = checkpoints.latest_step() or 0
        make = functools.partial(_first_state, trainings[0], start_params, stream(key, 0, "init"))
        abstract = abstract_state(make, mesh)
        state = checkpoints.restore(abstract, start) if start else make_sharded(make, abstract)
        writer.truncate_from(start + 1)
        validation_writer.truncate_from(start + 1)
        announce(config, stages, state, start)
        if start >= total:
            return

        # 3. The loop, once for each stage that is left; each is a program of its own.
        progress = Progress(total, start, items="pairs") if is_primary() else None
        validation = FlowValidation(config.validate, config.seed, real_pairs, validation_writer, keep_best, total)
        for stage, training in zip(stages, trainings, strict=True):
            if start >= stage.end_step:
                continue
            run = Run(
                step=training.step,
                batches=functools.partial(open_flow_batches, config, stage),
                frozen=bank_arrays(make_banks(config.seed)) if config.data.draw == "device" else {},
                key=key,
                total_steps=stage.end_step,
                clips_per_step=stage.batch_size,
                log_every=config.train.log_every,
                max_bad_steps=config.train.max_bad_steps,
                metadata={},
                hooks=[validation],
            )
            state = train(run, state, mesh, checkpoints, writer, progress)


def read_stages(config: ConfigDict) -> list[Stage]:
    """The curriculum: one stage for each entry of the tuples of config.train.

    Raises:
      ConfigError: the tuples are of different lengths, or a number cannot work.
    """
    fields = ("steps", "size", "batch_size", "iters")
    columns = [config.train[field] for field in fields]
    for field, column in zip(fields, columns, strict=True):
        if len(column) != len(columns[0]) or not column:
            raise ConfigError(f"train.{field}", column, f"as many entries as train.steps has, {len(columns[0])}")
        if any(value < 1 for value in column):
            raise ConfigError(f"train.{field}", column, "whole numbers of 1 or more")
    if any(size % CELL or size < MIN_SIDE for size in config.train.size):
        raise ConfigError("train.size", config.train.size, f"multiples of {CELL} pixels from {MIN_SIDE} on")
    stages, step, pair = [], 0, 0
    for steps, size, batch_size, iters in zip(*columns, strict=True):
        stages.append(Stage(step, step + steps, pair, size, batch_size, iters))
        step, pair = step + steps, pair + steps * batch_size
    return stages


def check_flow_config(config: ConfigDict) -> None:
    """Sees that the other fields are in range.

    Raises:
      ConfigError: one is not.
    """
    check_least(config, _LEAST)
    for field in ("optim.lr", "optim.clip"):
        if not 0 < attrgetter(field)(config) < math.inf:
            raise ConfigError(field, attrgetter(field)(config), "a number above 0")
    for field in ("optim.warmup", "optim.b1", "optim.b2", "train.ema"):
        if not 0 <= attrgetter(field)(config) < 1:
            raise ConfigError(field, attrgetter(field)(config), "a number from 0 to below 1")
    if config.data.draw not in ("host", "device"):
        raise ConfigError("data.draw", config.data.draw, "host or device")
    if config.validate.size % CELL or config.validate.size < MIN_SIDE:
        raise ConfigError("validate.size", config.validate.size, f"a multiple of {CELL} pixels from {MIN_SIDE} on")


def build_flow_training(config: ConfigDict, stage: Stage, total: int) -> FlowTraining:
    """The step of a stage, in a run of `total` steps."""
    optim = config.optim
    options = {}
    if config.data.draw == "device":
        options["pairs"] = lambda banks, batch: draw_pairs(banks, Scene(**batch), stage.size)._asdict()
    return FlowTraining(
        optimiser=optax.chain(
            optax.clip_by_global_norm(optim.clip),
            muon_direction(b1=optim.b1, b2=optim.b2, weight_decay=optim.weight_decay),
        ),
        schedule=cosine_schedule(optim.lr, optim.min_lr, steps=total, warmup_steps=int(optim.warmup * total)),
        iters=stage.iters,
        dtype=parse_dtype("train.dtype", config.train.dtype),
        ema_decay=config.train.ema,
        **options,
    )


def _first_state(training: FlowTraining, params: Mapping[str, Any] | None, key: jax.Array) -> TrainState:
    return training.init(key) if params is None else training.start(jax.tree.map(jnp.asarray, params))


def open_flow_batches(config: ConfigDict, stage: Stage, step: int) -> AbstractContextManager:
    """This process's batches of a stage, from step `step` of the run on."""
    return synthetic_batches(
        config.seed,
        stage.first_pair + (step - stage.first_step) * stage.batch_size,
        batch_size=stage.batch_size,
        size=stage.size,
        threads=config.data.threads,
        drawn=config.data.draw == "host",
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def announce(config: ConfigDict, stages: Sequence[Stage], state: TrainState, start: int) -> None:
    """Says on standard error, in the first process, what is about to run."""
    if not is_primary():
        return
    total = stages[-1].end_step
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    where = f"going on from step {start}" if start else f"from {config.init or 'random parameters'}"
    if start >= total:
        where = f"finished at step {start}, nothing to do"
    print(
        f"RAFT-small: {parameters:,} parameters; {total} steps, {where}; pairs drawn on the {config.data.draw}; "
        f"{jax.device_count()} {jax.devices()[0].device_kind} device(s) in {jax.process_count()} process(es)",
        file=sys.stderr,
        flush=True,
    )
    for stage in stages:
        print(
            f"  to step {stage.end_step}: {stage.batch_size} pairs of {stage.size}x{stage.size}, {stage.iters} updates",
            file=sys.stderr,
            flush=True,
        )
