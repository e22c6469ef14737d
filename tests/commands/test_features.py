import json
import os
from pathlib import Path

import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands.features import listed
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.runtime.preemption import Preemption
from tests.train.finetuned import finetuned_run


@pytest.mark.parametrize("name", ["cam.MTS", "a.mp4", "b.vob"])
def test_a_video_is_listed_alone(name: str):
    assert listed(name).paths == (name,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "videos.txt",
            r"^VIDEO\|LIST: '.*videos\.txt': give a folder of videos, or a list that ends in \.csv or \.jsonl",
        ),
        ("gone", r"^VIDEO\|LIST: '.*gone': give a folder of videos, or a \.csv or \.jsonl list, that exists"),
        (
            "ids.csv",
            r"a\.mp4: has label 99999999999999999999 in .*ids\.csv: a label is a class's number, from 0 to 9999",
        ),
    ],
)
def test_what_cannot_be_listed_names_the_argument(tmp_path: Path, name: str, message: str):
    (tmp_path / "videos.txt").touch()
    (tmp_path / "ids.csv").write_text("a.mp4,99999999999999999999\n")
    with pytest.raises(MgmaeError, match=message) as told:
        listed(os.fspath(tmp_path / name))
    assert not isinstance(told.value, ConfigError)


def test_sigterm_leaves_what_is_known_and_the_same_command_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    videos = motion_shapes.prepare(tmp_path / "shapes", videos=18, seed=0, split="test", size=(32, 48), frames=8)
    finetuned_run(tmp_path / "run", motion_shapes.CLASSES)

    def features(name: str) -> int:
        checkpoint, out = ["--checkpoint", str(tmp_path / "run")], ["--out", str(tmp_path / name)]
        return main(["features", str(videos), *checkpoint, *out, "--workers=0", "--clips-per-device=1"])

    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", lambda self: True)
        assert features("cut.npz") == 143
    (index,) = (tmp_path / "cut.npz.partial").glob("*.json")
    assert 0 < json.loads(index.read_text())["done"] < 18
    assert features("cut.npz") == features("whole.npz") == 0
    with np.load(tmp_path / "cut.npz") as cut, np.load(tmp_path / "whole.npz") as whole:
        np.testing.assert_array_equal(cut["features"], whole["features"])
