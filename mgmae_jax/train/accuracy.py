"""Accuracy during a classifier's training: measured at intervals, with the best parameters kept."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from mgmae_jax.evaluate.evaluator import Evaluator
from mgmae_jax.runtime.checkpoint import Checkpoints, steps_in
from mgmae_jax.runtime.distributed import from_primary, is_primary
from mgmae_jax.runtime.metrics import METRICS_FILE, MetricWriter, read_metrics
from mgmae_jax.train.state import TrainState

BEST = "best"
"""The folder of the best checkpoint in a workdir: WORKDIR/best/STEP, without optimiser state."""
FOLDER = "accuracy"
"""The folder of the accuracies in a workdir, as metrics.jsonl and for TensorBoard."""


class AccuracyHook:
    """Evaluates during a run; see `loop.Run.hooks`. Used as a context manager.

    Args:
      workdir: the run's folder.
      evaluator: evaluates on the test videos.
      every: steps between evaluations; 0: only at the last step.
      total: the last step, which is always evaluated.
      start: the step that the run starts from; what was measured after it, before the interruption, is dropped.
      preempted: see `VideoMap`; an evaluation that is left resumes with the run.
    """

    def __init__(
        self,
        workdir: Path,
        evaluator: Evaluator,
        *,
        every: int,
        total: int,
        start: int,
        preempted: Callable[[], bool] | None = None,
    ) -> None:
        self._evaluator, self._every, self._total, self._preempted = evaluator, every, total, preempted
        self._folder = workdir / FOLDER
        self._writer = MetricWriter(self._folder, is_primary())
        self._writer.truncate_from(start + 1)
        for left in self._folder.glob("step_*"):
            if is_primary() and left != self._predictions(start):  # those of this run's last step, or of no use
                shutil.rmtree(left)
        path = self._folder / METRICS_FILE
        lines = read_metrics(path) if is_primary() and path.exists() else []
        measured = from_primary([[int(line["step"]), line["top1"]] for line in lines])
        self._measured: dict[int, float] = {step: top1 for step, top1 in measured if step <= start}
        self._kept: int | None = from_primary(self._drop_unknown(workdir / BEST) if is_primary() else None)
        self._checkpoints = Checkpoints(workdir / BEST, every=1, keep=1)

    def __call__(self, done: int, state: TrainState) -> None:
        """Evaluates the state, or its average if it has one, if an evaluation is due and not done yet."""
        due = done >= self._total or (self._every and done and done % self._every == 0)
        if not due or done in self._measured:
            return
        predictions = self._predictions(done)
        if is_primary():
            predictions.mkdir(parents=True, exist_ok=True)
        report = self._evaluator(state.params if state.ema is None else state.ema, predictions, self._preempted)
        accuracies = {name: getattr(report, name).value for name in ("top1", "top5", "mean_class")}
        best = self._kept is None or accuracies["top1"] > self._measured[self._kept]
        highest = accuracies["top1"] > max(self._measured.values(), default=-1)
        self._measured[done] = accuracies["top1"]
        if best:
            self._kept = done
            kept = {"params": state.params} | ({} if state.ema is None else {"ema": state.ema})
            self._checkpoints.save(done, kept, accuracies)
        # After the checkpoint: what is in the file is not measured again.
        self._checkpoints.wait()
        self._writer.write(done, accuracies)
        if is_primary():
            shutil.rmtree(predictions)
            label = ", the best so far" if highest else ", the best that is kept" if best else ""
            print(f"\nstep {done}: top-1 {report.top1}, top-5 {report.top5}{label}", file=sys.stderr, flush=True)

    def _drop_unknown(self, folder: Path) -> int | None:
        """Removes the best checkpoints that no measurement before the run's start belongs to; returns the step left.

        They are of steps that the run may take differently now, or of a run that was here before.
        """
        steps = steps_in(folder)
        for step in steps:
            if step not in self._measured:
                shutil.rmtree(folder / str(step))
        return max((step for step in steps if step in self._measured), default=None)

    def _predictions(self, done: int) -> Path:
        """The folder for the predictions of an evaluation that is under way."""
        return self._folder / f"step_{done}"

    def best(self) -> tuple[int, float]:
        """Step and top-1 accuracy, from 0 to 1, of the evaluation whose parameters are kept, or of the best."""
        step = max(self._measured, key=lambda step: self._measured[step]) if self._kept is None else self._kept
        return step, self._measured[step]

    def __enter__(self) -> "AccuracyHook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
        self._checkpoints.__exit__(kind, error, traceback)
