"""A grid of two rows, one seed, small models and few steps, by the real commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgmae_jax.ablate.cells import grid_cells
from mgmae_jax.ablate.grid import RANDOM, read_grid
from mgmae_jax.ablate.results import read_results
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.train.baselines import GUESSES

GRID = '''
"""Two rows, the second with still videos."""

from mgmae_jax.configs.ablation import common

VIDEOS = (
    "data.motion_shapes.videos=32", "data.motion_shapes.size=32", "data.motion_shapes.frames=16", "data.workers=0",
)
TESTS = ("data.motion_shapes.test_videos=16",)


def get_config():
    config = common.get_config()
    config.title = "Moving and still"
    config.rows = (("moving",), ("still", "data.motion_shapes.still=True"))
    config.baseline = "moving"
    config.seeds = 1
    config.classes = True
    config.pretrain.fields = (*VIDEOS, "clip.size=32", "model.name=16/1/2/16/64/2", "train.epochs=0.5")
    config.probe.config = "probe/motion_shapes"
    config.probe.fields = (*VIDEOS, *TESTS, "train.epochs=2.0", "optim.warmup_epochs=1.0")
    config.finetune.config = "finetune/motion_shapes"
    config.finetune.fields = (
        *VIDEOS, *TESTS, "clip.size=32", "model.name=16/1/2/16/64/2", "train.epochs=1.0", "eval.every=0.0",
    )
    return config
'''


@pytest.mark.slow
def test_a_small_grid_runs_resumes_and_is_told(tmp_path: Path):
    file, out = tmp_path / "two.py", tmp_path / "out"
    file.write_text(GRID)
    environment = os.environ | {
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "MGMAE_CACHE": str(tmp_path / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache" / "xla"),
    }

    def ablate() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mgmae_jax.cli", "ablate", "--grid", str(file), "--out", str(out)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)

    done = ablate()
    logs = "\n".join(path.read_text() for path in out.rglob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    grid, _ = read_grid(str(file), load_config(str(file)), load_config)
    results = read_results(grid, out)
    assert (results.failures, results.missing) == ((), 0)
    assert all(set(results.values[row]) >= {"error", "mean_cube", "probe", "finetune"} for row in ("moving", "still"))
    assert set(results.values[RANDOM]) == {"probe"}
    assert sum(one.videos for one in results.classes["still"]) == 16
    assert done.stdout.startswith("## Moving and still\n")
    assert json.loads((out / "two.json").read_text())["missing"] == 0
    assert (out / "two.png").exists()
    assert (out / "two_classes1.png").exists()
    # The videos were made once: moving ones to train with, still ones, and those to test with.
    splits = {path.parent.relative_to(tmp_path / "cache") for path in (tmp_path / "cache").rglob("manifest.json")}
    assert sorted(split.name for split in splits) == ["test", "train", "train"]

    again = ablate()
    assert again.returncode == 0
    assert again.stderr == ""  # nothing was left to do
    # Killed between its last checkpoint and its guesses, a run has them made up for.
    (moving, _) = grid_cells(grid, out)
    guesses = moving.folder / "pretrain" / GUESSES
    before = guesses.read_text()
    guesses.unlink()
    assert not moving.parts[0].done
    assert ablate().stderr.count("begins") == 1
    assert json.loads(guesses.read_text()) == pytest.approx(json.loads(before))
