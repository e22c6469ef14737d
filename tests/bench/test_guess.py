import json
from pathlib import Path

import pytest

from mgmae_jax import cli
from mgmae_jax.train.baselines import BASELINES


@pytest.mark.slow
def test_the_demos_videos_leave_something_to_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path))
    fields = ["data.motion_shapes.videos=64", "data.workers=0", "train.batch_size=8"]
    config = ["--config", "demo", *(f"--config.{field}" for field in fields)]
    assert cli.main(["bench", "guess", *config, f"--json={tmp_path / 'guess.json'}"]) == 0
    errors = json.loads((tmp_path / "guess.json").read_text())["errors"]
    assert list(errors) == list(BASELINES)
    # Most of a cube is its mean colour, which is not that of the clip, nor that of its neighbour.
    assert errors["own_colour"] < 0.4 * min(errors[name] for name in BASELINES if name != "own_colour")
    assert "4x6x6 tokens, motion masks of ratio 0.75, target pixels" in capsys.readouterr().out
