"""The training loop, the same for every trainer: each supplies a step, a batch source and hooks.

The loop never waits for the device: a step's metrics are read when two more steps have been handed over.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.checkpoint import Checkpoints
from mgmae_jax.runtime.device_info import device_memory
from mgmae_jax.runtime.mesh import put_batch, put_replicated, replicated
from mgmae_jax.runtime.metrics import MetricWriter
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.train.state import TrainState

Hook = Callable[[int, TrainState], None]
_AHEAD = 2  # steps handed over to the device before the metrics of one are waited for


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run, ready to start.

    Args:
      step: (state, frozen, batch, key) -> (state, metrics); jitted here, the state donated.
      batches: from the first step's number, a context manager over this process's host batches.
      frozen: arrays that the step reads and never changes, like flow weights; placed whole on every device.
      key: the run's root key.
      total_steps: the step at which the run ends.
      clips_per_step: over all processes, for the speed.
      log_every: steps between lines of metrics.
      max_bad_steps: skipped steps in a row after which the run stops.
      metadata: small JSON dictionary kept with every checkpoint.
      hooks: called before the first step and after every step with (steps done, state), in every process.
    """

    step: Callable
    batches: Callable[[int], AbstractContextManager[Iterator[Mapping[str, np.ndarray]]]]
    frozen: Any
    key: jax.Array
    total_steps: int
    clips_per_step: int
    log_every: int
    max_bad_steps: int
    metadata: Mapping[str, Any]
    hooks: Sequence[Hook] = ()


def train(
    run: Run, state: TrainState, mesh: Mesh, checkpoints: Checkpoints, writer: MetricWriter, progress: Progress | None
) -> TrainState:
    """Runs from `state.step` to the end; saves by the checkpoints' policy, at the end, and when told to stop.

    Args:
      run: what to run.
      state: to start from, on the mesh; donated.
      mesh: of devices.
      checkpoints: to save to.
      writer: of metrics.
      progress: shown in the first process; None in the others.

    Returns:
      The state after the last step.

    Raises:
      MgmaeError: `max_bad_steps` steps in a row had no finite loss or gradient.
    """
    everywhere = replicated(mesh)
    frozen, key = put_replicated((run.frozen, run.key), mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    step_fn = jax.jit(run.step, donate_argnums=0, out_shardings=(shardings, everywhere))
    start = int(jax.device_get(state.step))
    report = _Report(run, writer, progress)
    with run.batches(start) as batches:  # opened first: workers decode while the hooks and the step are compiled
        for hook in run.hooks:
            hook(start, state)
        for done in range(start + 1, run.total_steps + 1):
            with report.waiting():
                local = next(batches)
            state, metrics = step_fn(state, frozen, put_batch(local, mesh), key)
            report.add(done, metrics)
            last = done == run.total_steps
            leave = checkpoints.preempted(done)
            if last or leave or checkpoints.due(done):
                # What a checkpoint has passed is never run again, so its metrics must stand in the file before it.
                report.flush()
                checkpoints.save(done, state, dict(run.metadata), force=last or leave)
            for hook in run.hooks:
                hook(done, state)
            if leave and not last:
                raise MgmaeError(
                    f"told to stop at step {done}, which is saved: run the same command to go on from there."
                )
    return state


class _Report:
    """Metrics on their way from the device to the files and the progress line."""

    def __init__(self, run: Run, writer: MetricWriter, progress: Progress | None) -> None:
        self._run, self._writer, self._progress = run, writer, progress
        self._pending: collections.deque[tuple[int, Mapping[str, jax.Array]]] = collections.deque()
        self._losses: list[float] = []
        self._waited = 0.0
        self._since = time.monotonic()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Times what happens inside as waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def add(self, done: int, metrics: Mapping[str, jax.Array]) -> None:
        self._pending.append((done, metrics))
        if len(self._pending) > _AHEAD:
            self._settle()

    def flush(self) -> None:
        while self._pending:
            self._settle()

    def _settle(self) -> None:
        done, metrics = self._pending.popleft()
        metrics = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        if metrics["bad_in_row"] >= self._run.max_bad_steps:
            raise MgmaeError(
                f"step {done}: {metrics['bad_in_row']:.0f} steps in a row had a loss or gradient that is not finite "
                f"(loss {metrics['loss']}, gradient norm {metrics['grad_norm']}), which is train.max_bad_steps. Lower "
                "optim.lr, lengthen optim.warmup_epochs, or use model.dtype=float32."
            )
        self._losses.append(metrics["loss"])
        if done % self._run.log_every and done != self._run.total_steps:
            return
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        steps = len(self._losses)
        speed = {
            "clips_per_second": steps * self._run.clips_per_step / seconds,
            "step_seconds": seconds / steps,
            "data_wait_share": min(self._waited / seconds, 1.0),
        }
        metrics["loss"] = float(np.mean(self._losses))
        self._writer.write(done, metrics | speed | device_memory())
        if self._progress is not None:
            numbers = {"loss": metrics["loss"], "lr": metrics["lr"], "clips_per_s": speed["clips_per_second"]}
            self._progress.update(done, **numbers)
        self._losses, self._waited, self._since = [], 0.0, now
