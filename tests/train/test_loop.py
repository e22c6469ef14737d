import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError, FileError, MgmaeError, StoppedError
from mgmae_jax.flow.raft import init_params
from mgmae_jax.runtime.checkpoint import Checkpoints
from mgmae_jax.runtime.mesh import make_mesh, replicated
from mgmae_jax.runtime.metrics import MetricWriter, read_metrics
from mgmae_jax.runtime.preemption import Preempted
from mgmae_jax.runtime.session import OpenRun
from mgmae_jax.train import loop
from mgmae_jax.train.loop import Hook, train
from mgmae_jax.train.state import TrainState
from tests.train.tiny import random_batch, tiny_pretraining, tiny_state

KEY = jax.random.key(0)
SLOW = pytest.mark.slow


class Batches:
    """Batches by step number; `on_next` is called with it before each."""

    def __init__(self, make: Callable[[int], Mapping[str, np.ndarray]], on_next: Callable[[int], None] | None = None):
        self._make, self._on_next = make, on_next

    @contextlib.contextmanager
    def __call__(self, first: int) -> Iterator[Iterator[Mapping[str, np.ndarray]]]:
        yield self._from(first)

    def _from(self, step: int) -> Iterator[Mapping[str, np.ndarray]]:
        while True:
            if self._on_next:
                self._on_next(step)
            yield self._make(step)
            step += 1


class Stepper:
    """A trainer of a step alone."""

    def __init__(self, step: Callable) -> None:
        self.step = step


def train_in(
    workdir: Path,
    step: Callable,
    batches: Batches,
    state: TrainState,
    *,
    every: int = 2,
    total: int = 6,
    log_every: int = 1,
    profile_steps: str = "",
    frozen: Any = None,
    hooks: Sequence[Hook] = (),
    checkpoints: type[Checkpoints] = Checkpoints,
) -> OpenRun:
    config = ConfigDict({"train": {"log_every": log_every, "max_bad_steps": 3, "profile_steps": profile_steps}})
    with (
        checkpoints(workdir / "checkpoints", every=every, keep=9) as opened_checkpoints,
        MetricWriter(workdir, True) as writer,
    ):
        start = int(jax.device_get(state.step))
        opened = OpenRun(workdir, make_mesh(), KEY, state, start, total, opened_checkpoints, writer, {})
        train(opened, Stepper(step), batches, config, frozen=frozen or {}, clips_per_step=8, hooks=hooks)
        assert opened.checkpoints.latest_step() == total
    return opened


def random_raft() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init_params, KEY)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=0.02).astype(np.float32), shapes)


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """The names of the programs compiled so far."""
    names: list[str] = []

    def listen(event: str, seconds: float, **details: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(details.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    ("flow", "size"), [("none", 32), pytest.param("tvl1", 32, marks=SLOW), pytest.param("raft", 64, marks=SLOW)]
)
def test_the_loop_compiles_once_transfers_nothing_unasked_and_donates(
    tmp_path: Path, compiled: list[str], flow: str, size: int
):
    pretraining = tiny_pretraining(size=size, flow=flow, strategy="tube" if flow == "none" else "motion")
    frozen = random_raft() if flow == "raft" else {}
    seen: list[list[str]] = []
    batches = Batches(
        lambda step: random_batch(step, size=size, flow=flow == "tvl1"), on_next=lambda step: seen.append(compiled[:])
    )
    state = tiny_state(pretraining)
    first = jax.tree.leaves(state)
    with jax.transfer_guard("disallow"):
        last = train_in(tmp_path, pretraining.step, batches, state, frozen=frozen, every=100).state
    assert len(seen) == 6
    during_first_step = seen[1][len(seen[0]) :]
    assert during_first_step == ["jit(step)"], during_first_step
    assert seen[-1] == seen[1]
    assert all(leaf.is_deleted() for leaf in first)
    assert int(last.step) == 6
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(line["loss"]) for line in read_metrics(tmp_path))


@jax.tree_util.Partial
def counting_step(state: TrainState, frozen: Any, batch: Mapping[str, jax.Array], key: jax.Array):
    """A step whose loss is its number, or that is bad where the batch says so."""
    bad = batch["bad"].max()
    state = state.replace(step=state.step + 1, bad_in_row=(state.bad_in_row + bad) * bad)
    loss = jnp.where(bad > 0, jnp.nan, state.step.astype(jnp.float32))
    return state, {"loss": loss, "lr": loss, "grad_norm": loss, "bad_in_row": state.bad_in_row}


def counting_state(step: int = 0) -> TrainState:
    scalars = (jnp.int32(value) for value in (step, 0, 0))
    step, bad_steps, bad_in_row = jax.device_put(list(scalars), replicated(make_mesh()))
    return TrainState(step, {}, (), bad_steps, bad_in_row)


def all_good(step: int) -> dict[str, np.ndarray]:
    return {"bad": np.zeros(8, np.int32)}


def test_metrics_are_means_over_the_steps_since_the_last_line_and_the_last_step_always_has_one(tmp_path: Path):
    train_in(tmp_path, counting_step, Batches(all_good), counting_state(), total=7, log_every=3)
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(3, 2), (6, 5), (7, 7)]


def test_the_time_of_hooks_is_not_that_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each batch takes two seconds of a clock of our own, and one evaluation a thousand."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0], process_time=time.process_time))

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    def evaluation(done: int, state: TrainState) -> None:
        pass_by(1000.0 if done == 4 else 0.0)

    batches = Batches(all_good, lambda step: pass_by(2.0))
    train_in(tmp_path, counting_step, batches, counting_state(), log_every=2, hooks=[evaluation])
    assert all(line["step_seconds"] < 10 for line in read_metrics(tmp_path))


def test_hooks_see_every_step_and_the_state_after_it(tmp_path: Path):
    calls = []
    hooks = [lambda done, state: calls.append((done, int(state.step)))]
    train_in(tmp_path, counting_step, Batches(all_good), counting_state(step=2), hooks=hooks)
    assert calls == [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]


def test_the_batches_start_at_the_states_step(tmp_path: Path):
    asked: list[int] = []
    train_in(tmp_path, counting_step, Batches(all_good, asked.append), counting_state(step=4))
    assert asked == [4, 5]


def test_a_checkpoint_comes_after_the_metrics_of_every_step_before_it(tmp_path: Path):
    """Else a run that is killed right after the save is resumed without them."""
    lines_at_save: list[int] = []

    class Watched(Checkpoints):
        def save(self, step: int, *args: Any, **options: Any) -> bool:
            lines_at_save.append(len(read_metrics(tmp_path)))
            return super().save(step, *args, **options)

    train_in(tmp_path, counting_step, Batches(all_good), counting_state(), total=5, checkpoints=Watched)
    assert lines_at_save == [2, 4, 5]


def test_too_many_bad_steps_in_a_row_stop_the_run_with_the_remedy(tmp_path: Path):
    bad_steps = {1, 2, 4, 5, 6}
    batches = Batches(lambda step: {"bad": np.full(8, step in bad_steps, np.int32)})
    with pytest.raises(MgmaeError, match=r"step 7: 3 steps in a row.*train.max_bad_steps.*optim.lr"):
        train_in(tmp_path, counting_step, batches, counting_state(), total=20, every=100)
    # Null in the file: a bad loss is reported, not dropped.
    assert [line["step"] for line in read_metrics(tmp_path) if np.isnan(line["loss"])] == [2, 3, 5, 6]


def test_no_checkpoint_is_made_of_a_run_that_has_gone_bad(tmp_path: Path):
    batches = Batches(lambda step: {"bad": np.ones(8, np.int32)})
    with pytest.raises(MgmaeError, match="step 3: 3 steps in a row"):
        train_in(tmp_path, counting_step, batches, counting_state(), total=20, every=3)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("done", [3, 6])
def test_a_hook_that_is_left_for_a_preemption_ends_the_run_with_its_step_saved(tmp_path: Path, done: int):
    def hook(step: int, state: TrainState) -> None:
        if step == done:
            raise Preempted

    with pytest.raises(
        StoppedError, match=rf"stopped by SIGTERM; step {done} is saved. Run the same command to resume"
    ):
        train_in(tmp_path, counting_step, Batches(all_good), counting_state(), every=100, hooks=[hook])
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(done)]


def test_a_run_that_is_stopped_and_cannot_be_saved_does_not_say_that_it_is(tmp_path: Path, monkeypatch):
    def hook(step: int, state: TrainState) -> None:
        if step == 3:
            monkeypatch.setattr(Checkpoints, "save", lambda *_, **__: True)  # in the background, where it fails
            monkeypatch.setattr(Checkpoints, "wait", full)
            raise Preempted

    def full(self: Checkpoints) -> None:
        raise FileError(self.folder, "the checkpoint of step 3 could not be saved (No space left on device)")

    with pytest.raises(FileError, match="step 3 could not be saved"):
        train_in(tmp_path, counting_step, Batches(all_good), counting_state(), every=100, hooks=[hook])


def traced(workdir: Path) -> list[int]:
    """The numbers of the steps in the run's trace; none if there is no trace."""
    files = list((workdir / "profile").rglob("*.xplane.pb"))
    assert len(files) <= 1
    data = [jax.profiler.ProfileData.from_file(str(file)) for file in files]
    events = [event for one in data for plane in one.planes for line in plane.lines for event in line.events]
    return sorted(dict(event.stats)["step_num"] for event in events if event.name == "step")


def test_the_steps_asked_for_are_traced_and_no_others(tmp_path: Path):
    train_in(tmp_path, counting_step, Batches(all_good), counting_state(), profile_steps="3:5")
    assert traced(tmp_path) == [3, 4, 5]
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("steps", "start"), [("", 0), ("3:5", 3)])
def test_without_steps_or_after_the_first_of_them_nothing_is_traced(tmp_path: Path, steps: str, start: int):
    train_in(tmp_path, counting_step, Batches(all_good), counting_state(start), profile_steps=steps)
    assert not (tmp_path / "profile").exists()


def test_a_run_that_stops_in_a_trace_leaves_the_profiler_free(tmp_path: Path):
    def hook(done: int, state: TrainState) -> None:
        if done == 4:
            raise Preempted

    with pytest.raises(StoppedError):
        train_in(tmp_path / "a", counting_step, Batches(all_good), counting_state(), profile_steps="3:5", hooks=[hook])
    train_in(tmp_path / "b", counting_step, Batches(all_good), counting_state(), profile_steps="3:5")
    assert (traced(tmp_path / "a"), traced(tmp_path / "b")) == ([3, 4], [3, 4, 5])


def test_a_trace_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "profile").write_text("a file")
    with pytest.raises(MgmaeError, match=r"config.train.profile_steps: the trace in .*profile failed"):
        train_in(tmp_path, counting_step, Batches(all_good), counting_state(), profile_steps="3:5")


def test_steps_that_the_run_does_not_reach_are_told_before_it_starts(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"config.train.profile_steps='5:7': give steps up to 6, the run's last"):
        train_in(tmp_path, counting_step, Batches(all_good), counting_state(), profile_steps="5:7")
    assert not (tmp_path / "profile").exists()


def test_the_next_batch_is_sent_while_the_device_works(tmp_path: Path):
    """A step that ends only once the batch after it has been asked for, which the loop does not wait to be told."""
    asked = [threading.Event() for _ in range(8)]
    in_time = []

    def wait(step: np.ndarray) -> np.ndarray:
        in_time.append(asked[int(step) + 1].wait(timeout=20))
        return np.float32(0)

    def step(state: TrainState, frozen: Any, batch: Mapping[str, jax.Array], key: jax.Array):
        late = jax.experimental.io_callback(wait, jax.ShapeDtypeStruct((), np.float32), state.step)
        state, metrics = counting_step(state, frozen, batch, key)
        return state, metrics | {"late": late}

    batches = Batches(all_good, lambda number: asked[number].set())
    asked[6].set()  # there is no batch after the last step
    train_in(tmp_path, step, batches, counting_state(), every=100)
    assert in_time == [True] * 6


@pytest.mark.parametrize("waits", [True, False])
def test_a_run_that_waits_for_its_data_says_once_what_to_raise(
    tmp_path: Path, waits: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(loop, "wait_advice", lambda config, step, share: f"step {step} waited" if waits else None)
    with caplog.at_level(logging.WARNING):
        train_in(tmp_path, counting_step, Batches(all_good), counting_state())
    assert [record.getMessage() for record in caplog.records] == ["step 2 waited"] * waits
