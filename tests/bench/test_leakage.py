"""Leakage of masks, on procedural videos whose true motion is known."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax import cli
from mgmae_jax.bench.leakage import clip_scene, leak, measure_leakage, places, ways
from mgmae_jax.commands import bench_leakage
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.datasets.motion_shapes.scene import draw, scene_flow, top_layers
from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit

GRID = TokenGrid(8, 48, 48, patch=8)
PANNING = 14  # a class that moves everything
FIELDS = ["clip.frames=8", "clip.size=64", "clip.stride=5", "model.patch=8", "mask.ratio=0.75", "flow.source=stored"]
SMALL = [f"--config.{field}" for field in FIELDS]


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_leakage, "enable_compilation_cache", lambda folder: None)


def split_of(strategy: str) -> TokenSplit:
    return draw_mask(MaskInput(jax.random.key(0), GRID, MaskOptions(strategy=strategy, ratio=0.75)))


def test_places_of_a_still_clip_are_the_same_in_every_frame():
    found = places(clip_scene(0, 3, GRID, 2, moves=False))
    row, column = np.mgrid[:48:2, :48:2]
    np.testing.assert_array_equal(found, np.broadcast_to(row * 48 + column, found.shape))


@pytest.mark.parametrize("index", [1, 8, PANNING])
def test_places_follow_the_true_flow(index: int):
    scene = clip_scene(0, index, GRID, 2, moves=True)
    found, flow, top = places(scene), scene_flow(scene), top_layers(scene)
    there = np.rint(np.stack(np.mgrid[:48:2, :48:2], -1) + flow[:, ::2, ::2, ::-1]).astype(int)
    for t in range(7):
        row, column = there[t, ..., 0], there[t, ..., 1]
        known = found[t + 1, t] >= 0
        near = np.abs(found[t + 1, t] - (row * 48 + column))[known]
        assert np.isin(near, (0, 1, 48, 49)).all()  # flow is float32: halves may round otherwise
        assert (near == 0).mean() > 0.95
        gone = ~known & ((there[t] >= 0) & (there[t] < 48)).all(-1)
        assert (top[t + 1][row[gone], column[gone]] != top[t, ::2, ::2][gone]).mean() > 0.9
    assert (found >= 0).mean() > 0.5


def test_what_a_still_clip_leaks():
    scene = clip_scene(0, 0, GRID, 2, moves=False)
    frames, found = draw(scene), places(scene)
    tube = leak(split_of("tube"), GRID, frames, found)
    assert (tube.seen, tube.along_motion) == (0, 0)
    assert leak(split_of("frame"), GRID, frames, found) == pytest.approx((1, 1, 1), abs=1e-6)
    # A token is hidden at all other times with probability 0.75 ** 3, given that it is now.
    assert leak(split_of("random"), GRID, frames, found).seen == pytest.approx(1 - 0.75**3, abs=0.1)


def test_a_point_is_seen_where_it_comes_out_of_a_hidden_cube():
    # Everything moves one cube to the right from each tubelet to the next, and nothing within a tubelet.
    grid = TokenGrid(4, 32, 32, patch=8)
    texture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    frames = np.stack([np.roll(texture, 8 * (t // 2), 1) for t in range(4)])
    row, column = np.mgrid[:32:2, :32:2]
    moved = np.array([[8 * (s // 2 - t // 2) for t in range(4)] for s in range(4)])[..., None, None] + column
    found = np.where((moved >= 0) & (moved < 32), row * 32 + moved, -1)
    tokens = np.arange(32)
    # The second column of tokens is visible: of what is hidden, that is the first and the third at the other time.
    tube = TokenSplit(jnp.asarray(tokens[tokens % 4 == 1]), jnp.asarray(tokens[tokens % 4 != 1]))
    measured = leak(tube, grid, frames, found)
    assert measured.seen == pytest.approx(2 / 6)
    assert measured.along_motion == pytest.approx(1 / 3, abs=0.05)
    assert measured.nearby < 0
    # A mask that moves along shows the same points at both times.
    column_of = np.where(tokens < 16, 1, 2)
    motion = TokenSplit(jnp.asarray(tokens[tokens % 4 == column_of]), jnp.asarray(tokens[tokens % 4 != column_of]))
    assert leak(motion, grid, frames, found)[:2] == (0, 0)


@pytest.mark.slow
def test_tubes_leak_more_than_motion_guided_masks_where_things_move_and_as_much_where_they_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    arguments = ["bench", "leakage", *SMALL, "--strategies", "motion", "tube", "--videos=16", "--masks=1"]
    assert cli.main([*arguments, f"--json={tmp_path / 'leakage.json'}"]) == 0
    rows = {(row["set"], row["name"]): row for row in json.loads((tmp_path / "leakage.json").read_text())["rows"]}
    assert len(rows) == 6
    for flow in ("true flow", "stored"):
        less = rows["moving", f"motion, {flow}"]["seen_beyond_tube"]
        assert less["mean"] < -3 * less["error"] < 0
        assert rows["still", f"motion, {flow}"]["seen"] == {"mean": 0, "error": 0}
    assert rows["still", "tube"]["seen"]["mean"] == 0
    text = capsys.readouterr().out
    assert "moving clips: motion guided masks by the true flow leak less than tube masks" in text
    assert "still clips: motion guided masks by the true flow leak as much as tube masks (+0.0 points" in text


def test_the_flow_must_be_one_for_all_masks_of_a_clip():
    for field, want in (
        ("mask.base_frame=random", "middle or first"),
        ("flow.source=codec", "raft, tvl1, dis or stored"),
    ):
        with pytest.raises(ConfigError, match=want):
            ways(load_config("pretrain/common", [*SMALL, f"--config.{field}"]), ["motion"])


def test_without_tube_masks_nothing_is_compared():
    rows = measure_leakage(load_config("pretrain/common", SMALL), ["random"], {}, videos=2, masks=1)
    assert "seen_beyond_tube" not in rows[0]
    assert bench_leakage.findings(rows) == []
    assert "beyond tube" not in bench_leakage.table("moving", rows)


def test_one_video_has_no_standard_error(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        bench_leakage.main(["--videos=1"])
    assert "give 2 or more videos" in capsys.readouterr().err


def test_a_config_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"config\.kind='finetune': give a config of kind 'pretrain'"):
        bench_leakage.main(["--config=finetune/common"])
