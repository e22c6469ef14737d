"""The training loop, the same for every trainer: each supplies a step, a batch source and hooks.

The loop never waits for the device: a step's metrics are read after two more steps have been dispatched. To follow a
step into its loss, continue with `Pretraining.step` in pretrain.py.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from jaxtyping import Array, Key
from ml_collections import ConfigDict

import mgmae_jax
from mgmae_jax.errors import ConfigError, MgmaeError, StoppedError
from mgmae_jax.ops.placement import on_mesh
from mgmae_jax.runtime.config_checks import profile_steps
from mgmae_jax.runtime.device_info import device_memory
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import put_batch, put_replicated, replicated
from mgmae_jax.runtime.metrics import MetricWriter
from mgmae_jax.runtime.preemption import Preempted
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.runtime.run_info import ALLOW_CHANGE
from mgmae_jax.runtime.session import OpenRun
from mgmae_jax.train.data_wait import wait_advice
from mgmae_jax.train.state import TrainState

Batches = Callable[[int], AbstractContextManager[Iterator[Mapping[str, np.ndarray]]]]
"""Takes the number of the first step, and returns a context manager over this process's host batches."""
Hook = Callable[[int, TrainState], None]
"""Called before the first step and after every step with (steps done, state), in every process."""
_AHEAD = 2  # steps dispatched to the device before the metrics of one are waited for


class Trainer(Protocol):
    """What the loop needs from a trainer, such as `Pretraining`, `Finetuning`, `FlowTraining` or `Probing`."""

    def step(
        self, state: TrainState, frozen: Any, batch: Mapping[str, Array], key: Key[Array, ""]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step, to be jitted with `state` donated.

        Args:
          state: the state before the step; `state.step` counts the steps done.
          frozen: arrays that the step reads and never changes, such as flow weights.
          batch: arrays whose leading axis is the global batch.
          key: the run's root key; random draws derive from it by the step and a stream's name.

        Returns:
          The state after the step and its metrics, scalars by name, including those of `apply_update`.
        """
        ...


def train(
    opened: OpenRun,
    trainer: Trainer,
    batches: Batches,
    config: ConfigDict,
    *,
    frozen: Any,
    clips_per_step: int,
    hooks: Sequence[Hook] = (),
    until: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Runs an open run to its end; saves by the checkpoints' policy, at the end, and on SIGTERM.

    Args:
      opened: the run; its `state` and `start` are those after the last step when this returns.
      trainer: what to run.
      batches: see `Batches`.
      config: `train.log_every` is the steps between lines of metrics, `train.max_bad_steps` the skipped steps in a row
        after which the run stops, `train.profile_steps` the steps to trace.
      frozen: what the step reads and never changes; replicated on every device.
      clips_per_step: clips per step over all processes, for the speed.
      hooks: see `Hook`.
      until: the step to stop at, by default the run's last.
      progress: shown in the first process; None shows nothing.

    Raises:
      StoppedError: the run received SIGTERM.
      MgmaeError: `max_bad_steps` steps in a row had no finite loss or gradient, or the trace cannot be written.
      ConfigError: the steps to trace are not all of this run.
    """
    mesh, checkpoints, state = opened.mesh, opened.checkpoints, opened.state
    end = opened.total if until is None else until
    frozen, key = put_replicated((frozen, opened.key), mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    step_fn = jax.jit(on_mesh(trainer.step, mesh), donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
    report = _Report(opened.writer, progress, config, clips_per_step, end)
    trace = _Trace(opened, config, end)
    # Opened first: workers decode while hooks and step compile.
    with batches(opened.start) as local_batches, contextlib.closing(trace):
        run_hooks(opened, hooks, opened.start, state)
        for done in range(opened.start + 1, end + 1):
            trace.before(done, state)
            with jax.profiler.StepTraceAnnotation("step", step_num=done):
                with report.waiting():
                    local = next(local_batches)
                state, metrics = step_fn(state, frozen, put_batch(local, mesh), key)
                report.add(done, metrics)
            trace.after(done, state)
            leave = checkpoints.preempted()
            if done == end or leave or checkpoints.due(done):
                # Steps before a checkpoint are never run again, so their metrics must be in the file before it is
                # saved.
                report.flush()
                checkpoints.save(done, state, dict(opened.identity), force=done == end or leave)
            if leave and done < opened.total:
                raise _stopped(opened, done)
            with report.paused():
                run_hooks(opened, hooks, done, state)
    opened.state, opened.start = state, end


def run_hooks(opened: OpenRun, hooks: Sequence[Hook], done: int, state: TrainState) -> None:
    """Calls the hooks after step `done`, and saves the state if a SIGTERM ends one of them early.

    Raises:
      StoppedError: it was ended.
    """
    try:
        for hook in hooks:
            hook(done, state)
    except Preempted:
        opened.checkpoints.save(done, state, dict(opened.identity), force=True)
        raise _stopped(opened, done) from None


def _stopped(opened: OpenRun, done: int) -> StoppedError:
    opened.checkpoints.wait()  # or a save that fails would be told as one that did not
    return StoppedError(f"stopped by SIGTERM; step {done} is saved. Run the same command to resume.")


class _Trace:
    """A trace of the steps of `train.profile_steps` in WORKDIR/profile, written by the first process.

    It begins when the device is done with the steps before the first, and ends when it is done with the last, or with
    that of the stage of the run. A run that starts after the first step traces nothing.

    Args:
      opened: the run.
      config: the resolved config.
      end: the step at which this stage ends.
    """

    def __init__(self, opened: OpenRun, config: ConfigDict, end: int) -> None:
        first, last = profile_steps(config) or (0, 0)
        if last > opened.total:
            steps = f"steps up to {opened.total}, the run's last"
            raise ConfigError("train.profile_steps", config.train.profile_steps, steps)
        self._first, self._last = (first, min(last, end)) if is_primary() else (0, 0)
        self._folder = opened.workdir / "profile"
        self._running = False

    def before(self, done: int, state: TrainState) -> None:
        """Begins the trace, if `done` is the number of its first step; `state` is that before the step."""
        if done == self._first:
            jax.block_until_ready(state)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # each call of a function; slows a step down and hides the rest
            with self._told():
                jax.profiler.start_trace(self._folder, profiler_options=options)
            self._running = True

    def after(self, done: int, state: TrainState) -> None:
        """Ends the trace and writes it, if `done` is the number of its last step; `state` is that after the step."""
        if self._running and done == self._last:
            jax.block_until_ready(state)
            self._running = False
            with self._told():
                jax.profiler.stop_trace()

    def close(self) -> None:
        """Ends the trace of a run that stops before its last step, as well as it can."""
        if self._running:
            self._running = False
            with contextlib.suppress(Exception):  # another error may be on its way
                jax.profiler.stop_trace()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise MgmaeError(
                f"config.train.profile_steps: the trace in {self._folder} failed ({error}): free space there, or leave "
                "the field empty."
            ) from error


class _Report:
    """Metrics on their way from the device to the files and the progress line."""

    def __init__(
        self, writer: MetricWriter, progress: Progress | None, config: ConfigDict, clips_per_step: int, end: int
    ) -> None:
        self._writer, self._progress, self._end = writer, progress, end
        self._log_every, self._max_bad_steps = config.train.log_every, config.train.max_bad_steps
        self._clips_per_step = clips_per_step
        self._pending: collections.deque[tuple[int, Mapping[str, jax.Array]]] = collections.deque()
        self._losses: list[float] = []
        self._waited = 0.0
        self._config, self._lines, self._told = config, 0, False
        self._since = time.monotonic()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time spent inside as waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time spent inside out of the speed of the steps."""
        start = time.monotonic()
        yield
        self._since += time.monotonic() - start

    def add(self, done: int, metrics: Mapping[str, jax.Array]) -> None:
        self._pending.append((done, metrics))
        if len(self._pending) > _AHEAD:
            self._settle()

    def flush(self) -> None:
        while self._pending:
            self._settle()

    def _settle(self) -> None:
        done, on_device = self._pending.popleft()
        metrics = {name: float(value) for name, value in jax.device_get(dict(on_device)).items()}
        if self._progress is not None:
            self._progress.begun(time.monotonic() - mgmae_jax.STARTED, time.process_time())
        if metrics["bad_in_row"] >= self._max_bad_steps:
            raise MgmaeError(
                f"step {done}: {metrics['bad_in_row']:.0f} steps in a row had a loss or gradient that is not finite "
                f"(loss {metrics['loss']}, gradient norm {metrics['grad_norm']}), which is train.max_bad_steps. Lower "
                f"optim.lr, lengthen optim.warmup_epochs, or use model.dtype=float32; {ALLOW_CHANGE} optim.lr (or the "
                "other field) lets the run resume with it."
            )
        self._losses.append(metrics["loss"])
        if done % self._log_every and done != self._end:
            return
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        steps = len(self._losses)
        speed = {
            "clips_per_second": steps * self._clips_per_step / seconds,
            "step_seconds": seconds / steps,
            "data_wait_share": min(self._waited / seconds, 1.0),
        }
        self._lines += 1
        # The first line counts the start of the workers.
        if self._lines > 1 and not self._told and (advice := wait_advice(self._config, done, speed["data_wait_share"])):
            self._told = True
            if is_primary():
                logging.warning("%s", advice)
        metrics["loss"] = float(np.mean(self._losses))
        self._writer.write(done, metrics | speed | device_memory())
        if self._progress is not None:
            numbers = {"loss": metrics["loss"], "lr": metrics["lr"], "clips_per_s": speed["clips_per_second"]}
            self._progress.update(done, **numbers)
        self._losses, self._waited, self._since = [], 0.0, now
