import types
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.evaluate.report import Interval
from mgmae_jax.runtime.checkpoint import find_checkpoint, restore_params
from mgmae_jax.runtime.metrics import read_metrics
from mgmae_jax.runtime.preemption import Preempted
from mgmae_jax.train.accuracy import AccuracyHook
from mgmae_jax.train.state import TrainState


def state(step: int, average: float | None = None) -> TrainState:
    zero = jnp.int32(0)
    ema = None if average is None else {"weight": jnp.float32(average)}
    return TrainState(jnp.int32(step), {"weight": jnp.float32(step)}, (), zero, zero, ema)


class Evaluator:
    """Says what the accuracies are, one after another, and keeps the parameters that it was shown."""

    def __init__(self, *accuracies: float) -> None:
        self.seen: list[float] = []
        self._accuracies = iter(accuracies)

    def __call__(self, params: dict, folder: Path, preempted: Callable[[], bool] | None) -> types.SimpleNamespace:
        assert folder.is_dir()
        self.seen.append(float(params["weight"]))
        top1 = Interval(next(self._accuracies), 0.0, 1.0)
        return types.SimpleNamespace(top1=top1, top5=Interval(1.0, 0, 1), mean_class=Interval(0.5, 0, 1))


def run(
    workdir: Path, evaluator: Evaluator, first: int, last: int, *, start: int = 0, every: int = 2, **options
) -> tuple:
    with AccuracyHook(workdir, evaluator, every=every, total=9, start=start) as hook:
        for done in range(first, last + 1):
            hook(done, state(done, **options))
        return hook.best()


def top1s(workdir: Path) -> dict[int, float]:
    return {line["step"]: line["top1"] for line in read_metrics(workdir / "accuracy")}


def best(workdir: Path) -> tuple[int, float]:
    path = find_checkpoint(workdir / "best")
    return int(path.name), float(restore_params(path, {"weight": jnp.float32(0)})["weight"])


def test_it_measures_at_intervals_and_at_the_end_and_keeps_the_best(tmp_path: Path):
    evaluator = Evaluator(0.2, 0.6, 0.4, 0.6, 0.5)
    assert run(tmp_path, evaluator, 0, 9) == (4, 0.6)
    assert evaluator.seen == [2, 4, 6, 8, 9]
    assert top1s(tmp_path) == {2: 0.2, 4: 0.6, 6: 0.4, 8: 0.6, 9: 0.5}
    assert best(tmp_path) == (4, 4.0)  # of equal ones the first


def test_without_an_interval_it_measures_the_end_alone(tmp_path: Path):
    assert run(tmp_path, Evaluator(0.3), 0, 9, every=0) == (9, 0.3)
    assert top1s(tmp_path) == {9: 0.3}


def test_the_average_is_what_is_measured_and_both_are_kept(tmp_path: Path):
    evaluator = Evaluator(0.3)
    run(tmp_path, evaluator, 0, 2, average=77.0)
    assert evaluator.seen == [77]
    assert best(tmp_path) == (2, 2.0)
    assert restore_params(tmp_path / "best", {"weight": jnp.float32(0)}, "ema")["weight"] == 77


def test_a_resumed_run_knows_what_was_measured_before_and_forgets_what_came_after(tmp_path: Path):
    run(tmp_path, Evaluator(0.5, 0.1, 0.7), 0, 6)
    # Its last checkpoint is of step 4: step 6 comes again, and is no better this time.
    evaluator = Evaluator(0.3, 0.2, 0.1)
    assert run(tmp_path, evaluator, 4, 9, start=4) == (6, 0.3)  # the parameters of step 2 are gone
    assert evaluator.seen == [6, 8, 9]
    assert best(tmp_path) == (6, 6.0)
    assert top1s(tmp_path) == {2: 0.5, 4: 0.1, 6: 0.3, 8: 0.2, 9: 0.1}


def test_the_best_of_another_run_in_the_same_folder_is_dropped(tmp_path: Path):
    run(tmp_path, Evaluator(0.5, 0.9, 0.7), 0, 6)
    assert best(tmp_path) == (4, 4.0)
    (tmp_path / "accuracy" / "metrics.jsonl").unlink()
    assert run(tmp_path, Evaluator(0.2, 0.1), 0, 4) == (2, 0.2)
    assert best(tmp_path) == (2, 2.0)


def test_a_run_whose_end_was_brought_forward_is_measured_where_it_is(tmp_path: Path):
    with AccuracyHook(tmp_path, Evaluator(0.4), every=0, total=5, start=8) as hook:
        hook(8, state(8))
        assert hook.best() == (8, 0.4)


def test_what_was_cut_off_while_it_was_measured_is_measured_on_resuming(tmp_path: Path):
    run(tmp_path, Evaluator(0.5), 0, 2)
    (tmp_path / "accuracy" / "metrics.jsonl").write_text("")
    evaluator = Evaluator(0.5)
    run(tmp_path, evaluator, 2, 3, start=2)
    assert evaluator.seen == [2]
    np.testing.assert_equal(top1s(tmp_path), {2: 0.5})
    assert best(tmp_path) == (2, 2.0)


def test_predictions_of_an_evaluation_under_way_are_kept_and_others_removed(tmp_path: Path):
    class Left(Evaluator):
        def __call__(self, params: dict, folder: Path, preempted: Callable[[], bool] | None) -> types.SimpleNamespace:
            (folder / "predictions.csv").write_text("some")
            raise Preempted

    with pytest.raises(Preempted):
        run(tmp_path, Left(), 0, 2)
    (tmp_path / "accuracy" / "step_8").mkdir()
    assert (tmp_path / "accuracy" / "step_2" / "predictions.csv").exists()

    class Resumed(Evaluator):
        def __call__(self, params: dict, folder: Path, preempted: Callable[[], bool] | None) -> types.SimpleNamespace:
            assert (folder / "predictions.csv").read_text() == "some"
            return super().__call__(params, folder, preempted)

    run(tmp_path, Resumed(0.5), 2, 3, start=2)
    assert [path.name for path in (tmp_path / "accuracy").glob("step_*")] == []
    assert top1s(tmp_path) == {2: 0.5}
