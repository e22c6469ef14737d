import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands import bench_agreement


def test_a_plot_of_another_kind_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(bench_agreement, "find_way", lambda *_: pytest.fail("reads weights"))
    assert main(["bench", "agreement", "videos", "--reference=dis", "--plot=cost.jpg"]) == 1
    assert "cost.jpg: a plot is written as .png, .svg or .pdf" in capsys.readouterr().err


def test_methods_and_videos_of_one_stem_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    drawn = {}
    grid = bench_agreement.motion_masks([])[1].grid
    visible = jnp.zeros((1, grid.tubelets * grid.rows * grid.columns), bool)
    flow = np.zeros((grid.frames - 1, grid.height // 8, grid.width // 8, 2), np.float32)
    videos = tuple(f"{tmp_path}/{folder}/1.mp4" for folder in "ab")
    monkeypatch.setattr(bench_agreement, "video_files", lambda path, field: videos)
    monkeypatch.setattr(bench_agreement, "video_clip", lambda path, spec, start: (np.zeros(1), "a clip"))
    monkeypatch.setattr(bench_agreement, "find_way", lambda text, overrides: lambda path, clip, keys: (flow, visible))
    monkeypatch.setattr(bench_agreement, "agreement", lambda one, two: 0.5)
    monkeypatch.setattr(bench_agreement, "agreement_strip", lambda names, *_, **__: names)
    monkeypatch.setattr(bench_agreement, "write_png", lambda path, names: drawn.update({path.name: names}))
    monkeypatch.setattr(bench_agreement, "draw_cost", lambda points, reference, path: drawn.update(plot=set(points)))
    methods = ["--methods", "runs/a/best.safetensors", "--methods", "runs/b/best.safetensors"]
    files = [f"--pictures={tmp_path}", f"--plot={tmp_path}/cost.png", f"--json={tmp_path}/out.json"]
    assert main(["bench", "agreement", "videos", "--reference=dis", "--masks=1", *methods, *files]) == 0
    assert drawn.pop("plot") == {"a-best", "b-best"}
    assert drawn == {f"{video}-1_{method}-best.png": ("dis", f"{method}-best") for video in "ab" for method in "ab"}
    assert [row["video"] for row in json.loads((tmp_path / "out.json").read_text())["rows"][:2]] == ["a-1", "b-1"]
    out = capsys.readouterr().out
    assert "a-best" in out
    assert "b-best" in out
