"""One run, made in many ways, is one run."""

import random
import signal
from pathlib import Path

import numpy as np
import pytest

from mgmae_jax.runtime.checkpoint import saved_steps
from tests.integration.runs import (
    ORDERS,
    STEPS,
    TWO_OF_FOUR,
    Launcher,
    command,
    lines_reach,
    losses,
    stop_when,
    tensors,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(launcher: Launcher, twelve_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of an uninterrupted run on one device."""
    workdir = tmp_path_factory.mktemp("reference")
    launcher.run(command(workdir, data__path=twelve_videos))
    return workdir


def test_a_run_leaves_its_record(reference: Path):
    found = losses(reference)
    assert np.mean(found[-3:]) < 0.97 * found[0]
    names = {path.name for path in reference.iterdir()}
    assert {"config.json", "run.json", "metrics.jsonl", "tensorboard", "checkpoints", "curves.png"} <= names
    for picture in ("previews/00000000.png", f"previews/{STEPS:08}.png", "curves.png"):
        assert (reference / picture).read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_does_nothing_more_and_says_so(launcher: Launcher, reference: Path, twelve_videos: Path):
    before = losses(reference), tensors(reference)
    errors = launcher.run(command(reference, data__path=twelve_videos))
    assert f"finished at step {STEPS}" in errors
    assert (losses(reference), tensors(reference)) == before


def test_data_workers_change_no_bit(launcher: Launcher, reference: Path, twelve_videos: Path, tmp_path: Path):
    launcher.run(command(tmp_path, data__path=twelve_videos, data__workers=3))
    assert losses(tmp_path) == losses(reference)


@pytest.mark.parametrize("fsdp", [1, 4])
def test_eight_devices(launcher: Launcher, reference: Path, twelve_videos: Path, tmp_path: Path, fsdp: int):
    launcher.run(command(tmp_path, data__path=twelve_videos, mesh__fsdp=fsdp, checkpoint__every=1000), devices=8)
    np.testing.assert_allclose(losses(tmp_path), losses(reference), rtol=1e-5)


@pytest.mark.parametrize("fsdp", [1, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_two_processes_of_four_devices(
    launcher: Launcher, reference: Path, twelve_videos: Path, tmp_path: Path, order: str, fsdp: int
):
    arguments = command(tmp_path, data__path=twelve_videos, checkpoint__every=1000, mesh__fsdp=fsdp)
    done = launcher.run_two(arguments, order)
    assert "8 cpu device(s) in 2 process(es)" in done.stderr
    np.testing.assert_allclose(losses(tmp_path), losses(reference), rtol=1e-5)


def saving(workdir: Path) -> bool:
    """Whether a checkpoint beyond the first is being written."""
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return any(not name.isdigit() for name in names) and "3" in names


def test_killed_at_any_moment_it_is_the_same_run(
    launcher: Launcher, reference: Path, twelve_videos: Path, tmp_path: Path
):
    # A worker process of its own, where the reference has none; it must not outlive the run.
    arguments = command(tmp_path, data__path=twelve_videos, data__workers=1)
    moments = [lines_reach(random.Random(0).randint(1, 2)), saving, lines_reach(random.Random(1).randint(7, 10))]
    for moment in moments:
        process = launcher.start(arguments)
        stop_when(process, lambda moment=moment: moment(tmp_path), signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    errors = launcher.run(arguments)
    assert "resuming from step" in errors
    assert losses(tmp_path) == losses(reference)
    assert tensors(tmp_path) == tensors(reference)
    assert all(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())


def test_told_to_stop_it_saves_and_the_same_command_goes_on(
    launcher: Launcher, reference: Path, twelve_videos: Path, tmp_path: Path
):
    arguments = command(tmp_path, data__path=twelve_videos, checkpoint__every=1000)
    process = launcher.start(arguments)
    errors = stop_when(process, lambda: lines_reach(2)(tmp_path), signal.SIGTERM)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    (step,) = (int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert f"stopped by SIGTERM; step {step} is saved. Run the same command to resume" in errors
    assert f"resuming from step {step}" in launcher.run(arguments)
    assert losses(tmp_path) == losses(reference)
    assert tensors(tmp_path) == tensors(reference)


@pytest.mark.parametrize("fsdp", [1, 4])
def test_saved_on_two_processes_it_resumes_on_one_and_back(
    launcher: Launcher, reference: Path, twelve_videos: Path, tmp_path: Path, fsdp: int
):
    def arguments(fsdp: int) -> list[str]:
        return command(tmp_path, data__path=twelve_videos, checkpoint__every=1000, mesh__fsdp=fsdp)

    saved = 0
    for prefix, devices, split in ((TWO_OF_FOUR, 1, fsdp), ((), 2, min(fsdp, 2))):
        process = launcher.start(arguments(split), devices, prefix)
        errors = stop_when(process, lambda saved=saved: lines_reach(saved + 1)(tmp_path), signal.SIGTERM)
        assert process.returncode == 143, errors
        assert f"resuming from step {saved};" in errors or not saved
        saved = saved_steps(tmp_path)[-1]
        assert f"stopped by SIGTERM; step {saved} is saved" in errors
    assert f"resuming from step {saved}; 8 cpu device(s) in 2" in launcher.run(arguments(fsdp), prefix=TWO_OF_FOUR)
    np.testing.assert_allclose(losses(tmp_path), losses(reference), rtol=1e-5)


def test_a_shipped_config_goes_through_save_and_resume(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    changes = {"flow__source": "tvl1", "flow__tvl1_fast": True, "model__name": "tiny", "clip__size": 64}
    changes |= {"data__path": twelve_videos, "train__log_every": 2, "optim__warmup_epochs": 1}
    arguments = command(tmp_path, "pretrain/folder", **changes)
    process = launcher.start(arguments)
    stop_when(process, lambda: (tmp_path / "checkpoints" / "6").exists(), signal.SIGTERM)
    launcher.run(arguments)
    steps = [int(line.split(",")[0].split()[-1]) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8, 10, 12]
