"""One evaluation, made in many ways, gives one report."""

import json
import random
import signal
from pathlib import Path

import pytest

from mgmae_jax.datasets import motion_shapes
from tests.integration.runs import ORDERS, Launcher
from tests.train.finetuned import finetuned_run

pytestmark = pytest.mark.slow
VIDEOS = 29  # no multiple of any batch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a fine-tuned model."""
    cache, workdir = tmp_path_factory.mktemp("shapes"), tmp_path_factory.mktemp("run")
    videos = motion_shapes.prepare(cache, videos=VIDEOS, seed=0, split="test", size=(32, 48), frames=8)
    finetuned_run(workdir, motion_shapes.CLASSES, eval__path=videos)
    return workdir


def command(run: Path, out: Path, *overrides: str) -> list[str]:
    return ["evaluate", "--checkpoint", str(run), "--out", str(out), *overrides]


def result(out: Path) -> tuple[dict, list[list[str]]]:
    """All of the report but what it says of the machine, and video, path, label, prediction of every video."""
    report = json.loads((out / "report.json").read_text())
    report["about"] = {name: report["about"][name] for name in ("checkpoint", "parameters", "split")}
    rows = (out / "predictions.csv").read_text().splitlines()
    assert len(rows) == VIDEOS + 1
    return report, [row.split(",")[:4] for row in rows]


@pytest.fixture(scope="module")
def reference(launcher: Launcher, run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[list[str]]]:
    """On one device, without interruption."""
    out = tmp_path_factory.mktemp("reference")
    launcher.run(command(run, out))
    report, rows = result(out)
    assert 0 < report["top5"]["value"] < 1
    return report, rows


@pytest.mark.parametrize("override", ["--config.mesh.fsdp=1", "--config.mesh.fsdp=4", "--config.data.workers=2"])
def test_eight_devices(launcher: Launcher, run: Path, reference: tuple, tmp_path: Path, override: str):
    launcher.run(command(run, tmp_path, override), devices=8)
    assert result(tmp_path) == reference


@pytest.mark.parametrize("order", ORDERS)
def test_two_processes_of_four_devices(launcher: Launcher, run: Path, reference: tuple, tmp_path: Path, order: str):
    done = launcher.run_two(command(run, tmp_path), order)
    assert result(tmp_path) == reference
    assert done.stdout.count("top-1") == 1


def test_killed_at_any_moment_and_gone_on_with_on_other_devices(
    launcher: Launcher, run: Path, reference: tuple, tmp_path: Path
):
    predictions, generator = tmp_path / "predictions.csv", random.Random(0)
    for devices in (1, 2):
        least = generator.randint(1, 8) + (len(predictions.read_text().splitlines()) if predictions.exists() else 1)
        process = launcher.start(command(run, tmp_path), devices)
        try:
            while not (predictions.exists() and predictions.read_bytes().count(b"\n") >= least):
                assert process.poll() is None, process.stderr.read()
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=300)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
        assert not (tmp_path / "report.json").exists()
    errors = launcher.run(command(run, tmp_path), devices=8)
    assert "video 0/" not in errors
    assert result(tmp_path) == reference


def test_progress_is_shown(launcher: Launcher, run: Path, tmp_path: Path):
    errors = launcher.run(command(run, tmp_path))
    assert f"video 0/{VIDEOS}" in errors
    assert f"100%  video {VIDEOS}/{VIDEOS}  top-1" in errors


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_a_probe_in_two_processes(launcher: Launcher, run: Path, tmp_path: Path, kind: str):
    fields = {"probe.kind": kind, "train.epochs": 10, "train.batch_size": 16, "eval.clips_per_device": 4}
    fields |= {f"data.motion_shapes.{name}": n for name, n in (("videos", 37), ("test_videos", 29), ("frames", 8))}
    options = [f"--config.{name}={value}" for name, value in (fields | {"data.motion_shapes.size": 32}).items()]

    def probe(name: str) -> list[str]:
        places = ["--out", str(tmp_path / name), "--features", str(tmp_path / f"{name}_features")]
        return ["probe", "--checkpoint", str(run), *places, *options]

    def found(name: str) -> tuple[dict, list[str]]:
        report = json.loads((tmp_path / name / "report.json").read_text())
        rows = (tmp_path / name / "predictions.csv").read_text().splitlines()
        return {key: value for key, value in report.items() if key != "about"}, [row.split(",")[:4] for row in rows]

    launcher.run(probe("one"))
    for order in ORDERS:
        launcher.run_two(probe(order), order)
        assert found(order) == found("one")
