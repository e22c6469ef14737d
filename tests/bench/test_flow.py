"""`mgmae bench flow` and `mgmae bench agreement`, and what they measure."""

import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax import cli
from mgmae_jax.bench.agreement import agreement, visible_mask, visible_tokens
from mgmae_jax.bench.flow import mask_flow
from mgmae_jax.bench.flow_methods import classical_method, raft_method
from mgmae_jax.commands import bench_agreement
from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.sources import VideoList
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import MgmaeError
from mgmae_jax.flow.raft import init_params
from mgmae_jax.interop.flow_weights import save_flow_weights
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.ops.tokens import TokenGrid

SHIFT = 3
GRID = TokenGrid(4, 64, 64, 2, 8)
SMALL = ["--config.clip.frames=4", "--config.clip.size=64", "--config.model.patch=8", "--config.flow.iters=1"]


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


@pytest.fixture
def pairs(tmp_path, texture):
    """A folder with one pair whose content moves to the right."""
    folder = tmp_path / "pairs" / "shifted"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "1.png"), texture[:, SHIFT:])
    cv2.imwrite(str(folder / "2.png"), texture[:, :-SHIFT])
    flow = np.tile(np.array([SHIFT, 0], np.float32), (80, 100 - SHIFT, 1))
    (folder / "f.flo").write_bytes(b"PIEH" + np.array([100 - SHIFT, 80], "<i4").tobytes() + flow.tobytes())
    return tmp_path / "pairs"


@pytest.mark.parametrize("name", ["tvl1", "tvl1_fast", "dis"])
def test_classical_methods_see_a_shift(texture, name: str):
    frames = np.stack([texture[:, SHIFT:], texture[:, :-SHIFT]])
    flow = classical_method(name)(frames, np.array([0, 1]), np.array([1, 0]))
    np.testing.assert_allclose(np.median(flow, axis=(1, 2)), [[SHIFT, 0], [-SHIFT, 0]], atol=0.1)


def test_no_motion_is_no_motion(texture):
    assert not classical_method("none")(texture[None], np.array([0]), np.array([0])).any()


def test_methods_that_are_not_there():
    with pytest.raises(MgmaeError, match="--methods tvl2: give a weights file, bundled, or one of tvl1, tvl1_fast"):
        classical_method("tvl2")


def test_agreement_counts_common_tokens():
    one = visible_mask(jnp.array([[0, 1, 2, 3], [4, 5, 6, 7]]), TokenGrid(2, 64, 64, 2, 16))
    two = visible_mask(jnp.array([[0, 1, 2, 9], [8, 9, 10, 11]]), TokenGrid(2, 64, 64, 2, 16))
    assert float(agreement(one, two)) == pytest.approx(3 / 8)
    assert float(agreement(one, one)) == 1


def test_masks_of_the_same_flow_agree_and_of_other_flow_do_not():
    clip = motion_shapes.render(0, 14, size=(64, 64), frames=40).frames[10:26:4]  # the camera pans
    mask = MaskOptions(ratio=0.75)
    keys = jax.random.split(jax.random.key(0), 4)
    flows = [mask_flow(classical_method(name), clip, mask) for name in ("dis", "dis", "tvl1_fast", "none")]
    assert flows[0].shape == (3, 64, 64, 2)
    tokens = [visible_mask(visible_tokens(jnp.asarray(flow), keys, GRID, mask), GRID) for flow in flows]
    same, other, still = (float(agreement(tokens[0], two)) for two in tokens[1:])
    assert same == 1
    assert still < other <= 1


def test_raft_method_is_the_network():
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    flow = raft_method(init_params(jax.random.key(0)), 2)(frames, np.array([0, 1]), np.array([1, 2]))
    assert flow.shape == (2, 64, 64, 2)
    assert np.isfinite(flow).all()


def test_bench_flow_prints_and_writes(pairs, tmp_path, capsys):
    weights = tmp_path / "random.safetensors"
    save_flow_weights(weights, init_params(jax.random.key(0)))
    out = tmp_path / "flow.json"
    command = ["bench", "flow", str(pairs), "--methods", str(weights), "dis", "--iters=1", "--repeats=1"]
    assert cli.main([*command, f"--json={out}"]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["pair"], row["method"].split("/")[-1]) for row in rows] == [
        ("shifted", "random.safetensors"), ("shifted", "dis"), ("mean", "random.safetensors"), ("mean", "dis"),
    ]  # fmt: skip
    assert rows[1]["epe"] < 0.3 < rows[0]["epe"]
    assert rows[1]["ms"] > 0
    text = capsys.readouterr().out
    assert "97x80" in text
    assert "random" in text


def test_bench_agreement_prints_and_draws(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    for index in (13, 14):
        video = motion_shapes.render(0, index, size=(64, 64))
        (tmp_path / "videos" / f"{index}.mp4").write_bytes(encode_mp4(video.frames, video.fps))
    weights = tmp_path / "random.safetensors"
    save_flow_weights(weights, init_params(jax.random.key(0)))
    out, pictures = tmp_path / "agreement.json", tmp_path / "strips"
    command = ["bench", "agreement", str(tmp_path / "videos"), "--reference=dis", "--masks=2", *SMALL]
    by_points, plot = "dis,mask.warp=trajectory", tmp_path / "cost.png"
    methods = ["dis", by_points, "tvl1_fast", str(weights)]
    arguments = ["--methods", *methods, f"--json={out}", f"--pictures={pictures}", f"--plot={plot}"]
    assert cli.main([*command, *arguments]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["video"] for row in rows] == ["13", "14", "mean", "ms a clip"]
    assert all(rows[3][method] > 0 for method in methods)
    assert rows[2][str(weights)] < rows[2][by_points] < 1
    assert cv2.imread(str(plot)).std() > 20
    assert all(row["dis"] == 1 for row in rows[:3])
    assert rows[2]["tvl1_fast"] == pytest.approx((rows[0]["tvl1_fast"] + rows[1]["tvl1_fast"]) / 2)
    assert 0 < rows[2][str(weights)] < rows[2]["tvl1_fast"] <= 1
    assert "mean flow px" in capsys.readouterr().out
    assert sorted(path.name for path in pictures.iterdir()) == sorted(
        f"{video}_{method}.png"
        for video in (13, 14)
        for method in ("dis", "dis-mask-warp-trajectory", "tvl1_fast", "random")
    )
    assert cv2.imread(str(pictures / "14_tvl1_fast.png")).std() > 20


def test_a_method_takes_fields_of_mask_and_flow_alone(tmp_path, capsys):
    assert cli.main(["bench", "agreement", str(tmp_path), "--reference=dis,clip.size=64"]) == 1
    assert "after commas give fields of mask or flow" in capsys.readouterr().err


@pytest.mark.parametrize("override", ["mask.strategy=tube", "mask.base_frame=random"])
def test_agreement_needs_flow_and_a_base_frame(tmp_path, capsys, override: str):
    assert cli.main(["bench", "agreement", str(tmp_path), "--reference=dis", f"--config.{override}"]) == 1
    assert "give motion, with a fixed base frame" in capsys.readouterr().err


def test_videos_in_a_bucket_are_refused(monkeypatch: pytest.MonkeyPatch):
    listed = VideoList(("/videos/a.mp4", "gs://bucket/b.mp4"), opener=open)
    monkeypatch.setattr(bench_agreement, "read_source", lambda path, field: listed)
    with pytest.raises(MgmaeError, match=r"^list.csv: lists gs://bucket/b.mp4, which is not a file here: mount the"):
        bench_agreement.video_files("list.csv", "VIDEOS")
    listed = VideoList(("/videos/a.mp4",))
    assert bench_agreement.video_files("list.csv", "VIDEOS") == ("/videos/a.mp4",)
