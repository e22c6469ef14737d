import base64
from pathlib import Path

import jax
import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands import explore
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.strategy_masks import both_ways, mask_steps, read_both_ways, visible_tokens
from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import host_clip_flow
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.flow.packed import packed
from mgmae_jax.show.clip import motion_shapes_clip, motion_shapes_flow
from mgmae_jax.train.clips import flow_spec
from tests.show.html_pages import checked

SMALL = [
    "--config.clip.frames=4", "--config.clip.size=32", "--config.clip.stride=2", "--config.model.patch=8",
    "--config.flow.source=tvl1",
]  # fmt: skip
SPEC = ClipSpec(4, 2, 32)


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(explore, "enable_compilation_cache", lambda folder: None)


def masks(page, ratio: int, strategy: int) -> np.ndarray:
    packed_bits = base64.b64decode(page.data["clip"]["masks"][ratio][strategy])
    return np.unpackbits(np.frombuffer(packed_bits, np.uint8), count=2 * 4 * 4).reshape(2, 4, 4)


def test_a_video_becomes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture):
    video = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    video.write_bytes(encode_mp4(motion_shapes.render(0, 0, size=(32, 48), frames=12).frames, 12))
    out = tmp_path / "new" / "page.html"
    arguments = ["--strategies", "motion", "tube", "--ratios", "0.75", "0.5"]
    assert main(["explore", str(video), *arguments, "--out", str(out), *SMALL]) == 0
    page = checked(out.read_text())
    assert not page.named("img")
    assert any(text.startswith("<img src=x onerror=alert(1)>.mp4: frames ") for text in page.texts)
    assert page.data["clip"]["ratios"] == [0.5, 0.75]
    for ratio, count in enumerate((8, 4)):
        for strategy in range(2):
            assert (masks(page, ratio, strategy).sum((1, 2)) == count).all()
    assert (masks(page, 0, 1)[0] == masks(page, 0, 1)[1]).all()  # a tube
    assert "Flow: Dual TV-L1." in " ".join(page.texts)
    assert f"wrote {out} (" in capsys.readouterr().err


def test_without_flow_other_strategies_are_shown(tmp_path: Path):
    out = tmp_path / "page.html"
    arguments = ["--motion-shapes=falling", "--strategies", "tube", "--ratios", "0.5", f"--out={out}", *SMALL]
    assert main(["explore", *arguments, "--config.flow.source=none"]) == 0
    page = checked(out.read_text())
    assert page.data["clip"]["flow"] is None
    assert "No flow." in " ".join(page.texts)


@pytest.mark.parametrize(
    "overrides",
    [["--config.mask.base_frame=random"], ["--config.mask.preset=released_code"], ["--config.mask.warp=forward"]],
)
def test_masks_are_those_of_the_step(overrides: list[str]):
    """From flow in both directions, a mask is that from flow towards the base frame only."""
    config = load_config("pretrain/common", [*SMALL, *overrides])
    clip, _ = motion_shapes_clip("falling", 0, SPEC, None)
    ((motion,),) = mask_steps(config, ["motion"], [0.75])
    key = jax.random.key(5)
    found = visible_tokens(motion, clip, host_clip_flow(clip, both_ways(config, motion)), key)
    details = jax.jit(motion.details)({}, key, clip, host_clip_flow(clip, flow_spec(config, motion)))
    np.testing.assert_array_equal(np.flatnonzero(found), details.split.visible)


def test_a_strategy_that_learns_starts_from_its_first_parameters():
    config = load_config("pretrain/common", [*SMALL, "--config.flow.source=none"])
    ((adamae,),) = mask_steps(config, ["adamae"], [0.75])
    clip, _ = motion_shapes_clip("falling", 0, SPEC, None)
    assert visible_tokens(adamae, clip, None, jax.random.key(0)).sum() == 8
    assert "Not trained yet: adamae." in explore._note([adamae], 0)


def test_stored_flow_is_read_in_both_directions():
    config = load_config("pretrain/common", [*SMALL, "--config.flow.source=stored"])
    ((motion,),) = mask_steps(config, ["motion"], [0.75])
    stored = motion_shapes_flow("pushed_right", 0, SPEC, None, both_ways(config, motion))
    flow = read_both_ways(packed(stored), motion)
    assert flow.shape == (2, 3, 32, 32, 2)
    moving = np.abs(flow[0, ..., 0]) > 1
    assert moving.any()
    assert np.sign(flow[0, ..., 0][moving]).mean() == -np.sign(flow[1, ..., 0][np.abs(flow[1, ..., 0]) > 1]).mean()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config.flow.source=none"], "--strategies motion --ratios 0.75: config.flow.source='none': give raft"),
        (["--ratios", "1.5"], "--ratios 1.5: config.mask.ratio=1.5: give "),
        (["--config.mask.ratio=0.5"], "--config.mask.ratio=0.5: a page has several; give them by --ratios"),
        (["--config.mask.strategy=tube"], "a page has several; give them by --strategies"),
        (["--ratios", *(f"0.{i}" for i in range(11, 22))], "--ratios: 11 are too many for a page: give at most 9"),
        (["--out=page.png"], "page.png: pages are written as .html"),
        (["--bogus"], "unknown argument '--bogus'"),
        (["--ratios=0.5", "--start=99"], "--start=99: give a frame of the video"),
    ],
)
def test_mistakes_are_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], told: str
):
    out = tmp_path / "page.html"
    assert main(["explore", "--motion-shapes=falling", f"--out={out}", *SMALL, *arguments]) == 1
    assert told in capsys.readouterr().err
    assert not out.exists()
