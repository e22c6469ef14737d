"""Fine-tuning from end to end: the run, its resumption, its checkpoints."""

import signal
from pathlib import Path

import numpy as np
import pytest

from mgmae_jax.evaluate.classes import read_classes
from mgmae_jax.evaluate.report import read_report
from mgmae_jax.runtime.checkpoint import find_checkpoint
from mgmae_jax.runtime.metrics import read_metrics
from tests.integration import runs
from tests.integration.labelled import CLASSES, STEPS, command, write_labelled
from tests.integration.runs import Launcher, lines_reach, losses, stop_when, tensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where training and test videos lie, and where the pre-trained encoder does, as fields of the config."""
    root = tmp_path_factory.mktemp("labelled")
    pretrained = {"clip__frames": 8, "model__patch": 16, "mask__ratio": 0.5, "mask__strategy": "tube"}
    return {
        "data__path": write_labelled(root / "train", 12),
        "eval__path": write_labelled(root / "test", 5),
        "pretraining": runs.command(root / "pretrained", data__path=root / "train", **pretrained),
        "init": root / "pretrained",
    }


@pytest.fixture(scope="module")
def arguments(launcher: Launcher, videos: dict) -> dict[str, Path]:
    """Fields of a run from a pre-trained encoder, which is made here."""
    launcher.run(videos["pretraining"])
    return {name: videos[name] for name in ("data__path", "eval__path", "init")}


@pytest.fixture(scope="module")
def reference(launcher: Launcher, arguments: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of an uninterrupted run on one device."""
    workdir = tmp_path_factory.mktemp("reference")
    errors = launcher.run(command(workdir, **arguments))
    assert f"9 steps, encoder from {arguments['init']}" in errors
    return workdir


def accuracies(workdir: Path) -> list[dict[str, float]]:
    lines = read_metrics(workdir / "accuracy")
    assert [line["step"] for line in lines] == [3, 6, 9]
    return lines


def test_a_run_leaves_its_record_and_its_best_and_last_checkpoint(reference: Path):
    assert len(losses(reference, STEPS)) == STEPS
    assert read_classes(reference) == CLASSES
    found = accuracies(reference)
    best = max(found, key=lambda line: line["top1"])
    assert find_checkpoint(reference / "best").name == str(best["step"])
    assert find_checkpoint(reference).name == str(STEPS)
    assert all(0 <= line["top1"] <= line["top5"] == 1 for line in found)


@pytest.mark.parametrize("which", ["best", "checkpoints"])
def test_the_accuracy_of_a_checkpoint_is_what_evaluate_finds(
    launcher: Launcher, reference: Path, tmp_path: Path, which: str
):
    launcher.run(["evaluate", "--checkpoint", str(reference / which), "--out", str(tmp_path)])
    step = int(find_checkpoint(reference / which).name)
    (line,) = (line for line in accuracies(reference) if line["step"] == step)
    report = read_report(tmp_path)
    assert {name: getattr(report, name).value for name in ("top1", "top5", "mean_class")} | {"step": step} == line


def test_told_to_stop_it_saves_and_the_same_command_goes_on(
    launcher: Launcher, arguments: dict, reference: Path, tmp_path: Path
):
    again = command(tmp_path, **arguments, checkpoint__every=1000)
    process = launcher.start(again)
    errors = stop_when(process, lambda: lines_reach(2)(tmp_path), signal.SIGTERM)
    assert process.returncode == 143, errors
    (step,) = (int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert f"stopped by SIGTERM; step {step} is saved" in errors
    assert f"resuming from step {step}" in launcher.run(again)
    assert losses(tmp_path, STEPS) == losses(reference, STEPS)
    assert tensors(tmp_path, STEPS) == tensors(reference, STEPS)
    assert accuracies(tmp_path) == accuracies(reference)


def test_killed_while_it_evaluates_it_is_the_same_run(
    launcher: Launcher, arguments: dict, reference: Path, tmp_path: Path
):
    again = command(tmp_path, **arguments, data__workers=1)
    process = launcher.start(again)
    # Its last checkpoint is of step 2 or 4 then: step 3 is measured again, or stands there already.
    stop_when(process, (tmp_path / "best" / "3").exists, signal.SIGKILL)
    assert "resuming from step" in launcher.run(again)
    assert losses(tmp_path, STEPS) == losses(reference, STEPS)
    assert tensors(tmp_path, STEPS) == tensors(reference, STEPS)
    assert accuracies(tmp_path) == accuracies(reference)


def test_a_finished_run_does_nothing_more(launcher: Launcher, arguments: dict, reference: Path):
    before = tensors(reference, STEPS), accuracies(reference)
    assert f"finished at step {STEPS}, nothing to do" in launcher.run(command(reference, **arguments))
    assert (tensors(reference, STEPS), accuracies(reference)) == before


def test_eight_devices(launcher: Launcher, arguments: dict, reference: Path, tmp_path: Path):
    launcher.run(command(tmp_path, **arguments, mesh__fsdp=4, checkpoint__every=1000), devices=8)
    np.testing.assert_allclose(losses(tmp_path, STEPS), losses(reference, STEPS), rtol=1e-5)


def test_the_encoder_is_the_pretrained_one(launcher: Launcher, arguments: dict, reference: Path, tmp_path: Path):
    """Without it all else, the head and the data among it, is the same: the first loss tells."""
    errors = launcher.run(command(tmp_path, **(arguments | {"init": ""})))
    assert "from scratch" in errors
    assert losses(tmp_path, STEPS)[0] != losses(reference, STEPS)[0]
