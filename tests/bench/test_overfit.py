import json
from pathlib import Path

import numpy as np
import pytest

from mgmae_jax import cli


@pytest.mark.slow
def test_under_masks_held_fixed_the_loss_falls_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path))
    fields = ["data.motion_shapes.videos=4", "train.batch_size=4", "data.views=1", "clip.size=32", "optim.lr=0.25"]
    config = ["--config", "demo", *(f"--config.{field}" for field in fields)]
    losses = {}
    for name, options in {"new": [], "same": ["--same-masks"]}.items():
        file = tmp_path / f"{name}.json"
        assert cli.main(["bench", "overfit", *config, "--steps=48", f"--json={file}", *options]) == 0
        losses[name] = json.loads(file.read_text())["losses"]
        assert len(losses[name]) == 48
    assert "the same masks" in capsys.readouterr().out
    assert losses["same"][0] == losses["new"][0]
    assert losses["same"][-1] < 0.8 * losses["same"][0]
    assert (np.diff(losses["same"]) < 0).all()
    assert (np.diff(losses["new"]) > 0).any()
    assert cli.main(["bench", "overfit", *config, "--steps=8"]) == 0
    assert "| 8 to 8 |" in (table := capsys.readouterr().out)
    assert "nan" not in table
