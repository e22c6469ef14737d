import json
from pathlib import Path

import pytest

from mgmae_jax import cli

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_masks_held_fixed_are_learned_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path))
    fields = ["data.motion_shapes.videos=4", "train.batch_size=4", "data.views=1", "clip.size=32", "optim.lr=0.25"]
    config = ["--config", str(ROOT / "configs/demo.py"), *(f"--config.{field}" for field in fields)]
    losses = {}
    for name, options in {"new": [], "same": ["--same-masks"]}.items():
        file = tmp_path / f"{name}.json"
        assert cli.main(["bench", "overfit", *config, "--steps=48", f"--json={file}", *options]) == 0
        losses[name] = json.loads(file.read_text())["losses"]
        assert len(losses[name]) == 48
    assert "the same masks" in capsys.readouterr().out
    assert losses["same"][0] == losses["new"][0]
    assert losses["same"][-1] < min(losses["new"][-1], 0.8 * losses["same"][0])
