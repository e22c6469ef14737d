"""Accuracy during a classifier's training: measured at intervals, with the best parameters kept."""

import sys
from pathlib import Path
from types import TracebackType

from mgmae_jax.evaluate.evaluator import Evaluator
from mgmae_jax.runtime.checkpoint import Checkpoints
from mgmae_jax.runtime.distributed import is_primary
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
    """

    def __init__(self, workdir: Path, evaluator: Evaluator, *, every: int, total: int, start: int) -> None:
        self._evaluator, self._every, self._total = evaluator, every, total
        self._writer = MetricWriter(workdir / FOLDER, is_primary())
        self._writer.truncate_from(start + 1)
        path = workdir / FOLDER / METRICS_FILE
        self._measured = {int(line["step"]): line["top1"] for line in read_metrics(path)} if path.exists() else {}
        self._measured = {step: top1 for step, top1 in self._measured.items() if step <= start}
        self._checkpoints = Checkpoints(workdir / BEST, every=1, keep=1)

    def __call__(self, done: int, state: TrainState) -> None:
        """Evaluates the state, or its average if it has one, if an evaluation is due and not done yet."""
        due = done == self._total or (self._every and done and done % self._every == 0)
        if not due or done in self._measured:
            return
        report = self._evaluator(state.params if state.ema is None else state.ema)
        accuracies = {name: getattr(report, name).value for name in ("top1", "top5", "mean_class")}
        best = accuracies["top1"] > max(self._measured.values(), default=-1)
        self._measured[done] = accuracies["top1"]
        if best and (self._checkpoints.latest_step() or 0) < done:
            kept = {"params": state.params} | ({} if state.ema is None else {"ema": state.ema})
            self._checkpoints.save(done, kept, accuracies)
        # After the checkpoint: what is in the file is not measured again.
        self._checkpoints.wait()
        self._writer.write(done, accuracies)
        if is_primary():
            label = ", the best so far" if best else ""
            print(f"\nstep {done}: top-1 {report.top1}, top-5 {report.top5}{label}", file=sys.stderr, flush=True)

    def best(self) -> tuple[int, float]:
        """Step and top-1 accuracy, from 0 to 1, of the best evaluation."""
        return max(self._measured.items(), key=lambda measured: (measured[1], -measured[0]))

    def __enter__(self) -> "AccuracyHook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
        self._checkpoints.__exit__(kind, error, traceback)
