"""Training of the flow network: RAFT's sequence loss, the one jitted step around it, and a whole run in stages."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.datasets.flow_pairs.banks import make_banks
from mgmae_jax.datasets.flow_pairs.batches import synthetic_batches
from mgmae_jax.datasets.flow_pairs.scene import Scene
from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import MIN_SIDE
from mgmae_jax.flow.metrics import end_point_error
from mgmae_jax.flow.raft import CELL, RaftSmall, init_params, upsample_flow
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.runtime.config_checks import (
    TRAINER_MINIMA,
    check_kind,
    check_minima,
    check_one_of,
    check_positive,
    check_shares,
    parse_dtype,
    profile_steps,
)
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import check_divides, make_mesh, process_share
from mgmae_jax.runtime.metrics import MetricWriter
from mgmae_jax.runtime.rng import stream
from mgmae_jax.runtime.session import open_run
from mgmae_jax.train.flow_pairs import bank_arrays, draw_pairs
from mgmae_jax.train.flow_perturbation import draw_errors
from mgmae_jax.train.flow_validation import FlowValidation
from mgmae_jax.train.loop import run_hooks, train
from mgmae_jax.train.optim import Schedule, cosine_schedule, muon_direction
from mgmae_jax.train.state import TrainState, apply_update, create

FLOW_MACHINE_FIELDS = (
    "data.threads", "train.log_every", "train.profile_steps", "train.max_bad_steps", "checkpoint", "compile_cache",
    "validate.every", "validate.folder", "init",
)  # fmt: skip
"""Fields whose values may change when a flow training run is resumed."""
_MINIMA = {
    **TRAINER_MINIMA,
    "data.threads": 1,
    "validate.every": 1,
    "validate.pairs": 1,
    "validate.iters": 1,
}

GAMMA = 0.8
"""Weight of an update's error in the loss, relative to the next one's (RAFT, Eq. 7)."""


@dataclasses.dataclass(frozen=True)
class FlowTraining:
    """The parts of a training run of RAFT-small.

    Args:
      optimiser: computes the direction of each update.
      schedule: the learning rate of each step.
      iters: RAFT's updates in the loss.
      dtype: the dtype of RAFT's convolutions; parameters, correlation, positions, flow and loss are float32.
      ema_decay: the decay of the average of the parameters, which is what is validated and kept.
      perturb: part of the updates before which the flow is given an error; see `draw_errors`.
      pairs: makes frame pairs from the frozen arrays and the batch: "image1", "image2", "flow" (see
        `flow_pairs.pair.Pair`).
    """

    optimiser: optax.GradientTransformation
    schedule: Schedule
    iters: int
    dtype: DTypeLike
    ema_decay: float
    perturb: float = 0.0
    pairs: Callable[[Any, Mapping[str, Array]], Mapping[str, Array]] = lambda frozen, batch: batch

    def init(self, key: Key[Array, ""]) -> TrainState:
        """The state before the first step; float32 parameters drawn from `key`."""
        return self.start(init_params(key))

    def start(self, params: Any) -> TrainState:
        """The state before the first step from given parameters."""
        return create(params, self.optimiser, ema=True)

    def step(
        self, state: TrainState, frozen: Any, batch: Mapping[str, Array], key: Key[Array, ""]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step, to be jitted with `state` donated; the errors that the flow is given derive from `key` by the step.

        Returns:
          The state after the step, and its metrics (scalars): also "epe", the end-point error of the last update in
          pixels.
        """
        with jax.named_scope("pairs"):
            pairs = self.pairs(frozen, batch)
        own_key = stream(key, state.step, "flow_error")
        (loss, error), grads = jax.value_and_grad(self.loss, has_aux=True)(state.params, pairs, own_key)
        with jax.named_scope("update"):
            state, metrics = apply_update(state, self.optimiser, loss, grads, self.schedule(state.step), self.ema_decay)
        return state, metrics | {"epe": error}

    def loss(
        self, params: Any, pairs: Mapping[str, Array], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The sequence loss, and the end-point error of the last update."""
        image1, image2 = pairs["image1"], pairs["image2"]
        errors = None
        if self.perturb:
            number, height, width, _ = image1.shape
            errors = draw_errors(key, self.perturb, self.iters, number, height // CELL, width // CELL)
        flows = flow_after_each(params, image1, image2, iters=self.iters, dtype=self.dtype, errors=errors)
        return sequence_loss(flows, pairs["flow"]), end_point_error(flows[-1], pairs["flow"]).mean()


def flow_after_each(
    params: Any,
    image1: UInt8[Array, "P H W 3"],
    image2: UInt8[Array, "P H W 3"],
    *,
    iters: int,
    dtype: DTypeLike = jnp.float32,
    errors: Float[Array, "{iters} P h w xy=2"] | None = None,
) -> Float[Array, "{iters} P H W xy=2"]:
    """Flow in pixels after each of `iters` updates, with gradients; sides divide by 8. `errors`: see `draw_errors`."""
    raft = RaftSmall(dtype)
    one, two = (image.astype(jnp.float32) * jnp.float32(2 / 255) - 1 for image in (image1, image2))
    with jax.named_scope("encode"):
        features = apply_module(raft, params, jnp.concatenate([one, two]), method="features")
        context = apply_module(raft, params, one, method="context")
    features1, features2 = jnp.split(features, 2)

    def refine(params: Any, *inputs: Array, for_cpu: bool) -> Array:
        *maps, errors = inputs
        options: dict[str, Any] = {"iters": iters, "every": True, "for_cpu": for_cpu, "errors": errors}
        return apply_module(raft, params, *maps, method="refine", **options)

    with jax.named_scope("refine"):
        flows = jax.lax.platform_dependent(
            params,
            features1,
            features2,
            context,
            errors,
            cpu=functools.partial(refine, for_cpu=True),
            default=functools.partial(refine, for_cpu=False),
        )
    return jax.vmap(upsample_flow)(flows)


def sequence_loss(flows: Float[Array, "I P H W xy=2"], truth: Float[Array, "P H W xy=2"]) -> Float[Array, ""]:
    """RAFT's loss (Eq. 7): the mean absolute error after each update, later ones counting more."""
    errors = jnp.abs(flows - truth[None]).mean(axis=(1, 2, 3, 4))
    weights: Array = jnp.float32(GAMMA) ** jnp.arange(flows.shape[0] - 1, -1, -1, dtype=jnp.float32)
    return (weights * errors).sum()


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of the curriculum.

    Args:
      first_step: the step at which it starts.
      end_step: the step at which it ends.
      first_pair: index of its first pair; pairs are not repeated.
      size: side of its frames in pixels.
      batch_size: pairs per step.
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
    allow_change: Sequence[str] = (),
) -> None:
    """Trains RAFT-small, or resumes the run that the workdir holds.

    Args:
      config: the resolved config, see configs/flow/raft_small.py.
      workdir: the run's folder, for config.json, run.json, metrics.jsonl, validation/ and checkpoints/.
      start_params: the initial parameters; random ones if None.
      keep_best: called in the first process with (parameters, scores, step) when the validation is the best so far.
      real_pairs: pairs by name, to be validated on as well; see `FlowValidation`.
      argv: the command, for run.json.
      allow_change: see `open_run`.

    Raises:
      MgmaeError: anything that the user can fix; the message says how.
    """
    check_kind(config, "flow")
    stages = read_stages(config)
    check_flow_config(config)
    total = stages[-1].end_step
    mesh = make_mesh()
    for stage in stages:
        check_divides("train.batch_size", stage.batch_size, mesh)
    trainings = [build_flow_training(config, stage, total) for stage in stages]
    with (
        open_run(
            workdir,
            config,
            argv,
            functools.partial(_first_state, trainings[0], start_params),
            total,
            mesh,
            machine_fields=FLOW_MACHINE_FIELDS,
            allow_change=allow_change,
        ) as opened,
        MetricWriter(workdir / "validation", is_primary()) as validation_writer,
    ):
        # A start from other weights, interrupted before its first checkpoint, may have left scores of step 0.
        validation_writer.truncate_from(opened.start + 1 if opened.start else 0)
        pairs = f"pairs drawn on the {config.data.draw}"
        opened.announce("RAFT-small", pairs, f"from {config.init}" if config.init else "from scratch")
        announce_stages(stages)
        # The loop, once for each remaining stage; each stage is a program of its own.
        progress = opened.progress("pairs")
        validation = FlowValidation(
            config.validate,
            config.seed,
            real_pairs,
            validation_writer,
            keep_best,
            total,
            starts_trained=start_params is not None,
        )
        if opened.finished:  # perhaps interrupted between its last checkpoint and the validation
            run_hooks(opened, [validation], opened.start, opened.state)
        for stage, training in zip(stages, trainings, strict=True):
            if opened.start < stage.end_step:
                train(
                    opened,
                    training,
                    functools.partial(open_flow_batches, config, stage, mesh),
                    config,
                    frozen=bank_arrays(make_banks(config.seed)) if config.data.draw == "device" else {},
                    clips_per_step=stage.batch_size,
                    hooks=[validation],
                    until=stage.end_step,
                    progress=progress,
                )


def announce_stages(stages: Sequence["Stage"]) -> None:
    """Says on standard error, in the first process, what the stages are."""
    for stage in stages if is_primary() else ():
        pairs = f"{stage.batch_size} pairs of {stage.size}x{stage.size}"
        print(f"  to step {stage.end_step}: {pairs}, {stage.iters} updates", file=sys.stderr, flush=True)


def read_stages(config: ConfigDict) -> list[Stage]:
    """The curriculum: one stage for each entry of the tuples of config.train.

    Raises:
      ConfigError: the tuples have different lengths, or a number cannot work.
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
    """Checks that the fields other than the stages' are in range.

    Raises:
      ConfigError: a field is not.
    """
    check_minima(config, _MINIMA)
    check_positive(config, "optim.lr", "optim.clip")
    check_shares(config, "optim.warmup", "optim.b1", "optim.b2", "train.ema", "train.perturb")
    check_one_of(config, "data.draw", ("host", "device"))
    profile_steps(config)
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
        perturb=config.train.perturb,
        **options,
    )


def _first_state(training: FlowTraining, params: Mapping[str, Any] | None, key: jax.Array) -> TrainState:
    return training.init(key) if params is None else training.start(jax.tree.map(jnp.asarray, params))


def open_flow_batches(
    config: ConfigDict, stage: Stage, mesh: Mesh, step: int
) -> AbstractContextManager[Iterator[dict[str, np.ndarray]]]:
    """This process's batches of a stage, from step `step` of the run on."""
    return synthetic_batches(
        config.seed,
        stage.first_pair + (step - stage.first_step) * stage.batch_size,
        batch_size=stage.batch_size,
        size=stage.size,
        threads=config.data.threads,
        drawn=config.data.draw == "host",
        share=process_share(mesh),
    )
