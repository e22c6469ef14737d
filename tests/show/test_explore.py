import base64
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mgmae_jax.commands import explore as command
from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.flow_places import flow_path
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import FileError
from mgmae_jax.show import explore
from mgmae_jax.show.explore import ExploredClip, agreement, explore_page, packed_flow
from tests.show.html_pages import HOSTILE, checked
from tests.stored_dense import store_dense

OUT = Path("explore.html")


def explored(*, frames: int = 8, rows: int = 3, columns: int = 4, patch: int = 8, tubelet: int = 2) -> ExploredClip:
    """Two strategies at two ratios; everything moves two pixels right and one down from frame to frame."""
    rng = np.random.default_rng(0)
    y, x, t = np.meshgrid(np.arange(rows * patch), np.arange(columns * patch), np.arange(frames), indexing="ij")
    picture = np.stack([8 * (x - 2 * t), 8 * (y - t), 0 * t], -1).transpose(2, 0, 1, 3)
    tokens = (frames // tubelet) * rows * columns
    visible = np.zeros((2, 2, tokens), bool)
    for ratio, count in enumerate((12, 6)):
        for strategy in range(2):
            visible[ratio, strategy, rng.permutation(tokens)[:count]] = True
    flow = np.broadcast_to(np.float32([2, 1]), (frames - 1, rows, columns, 2))
    return ExploredClip(
        title="a clip",
        note="how it was made",
        frames=(picture % 256).astype(np.uint8),
        tubelet=tubelet,
        strategies=["motion", "tube"],
        ratios=[0.75, 0.875],
        visible=visible.reshape(2, 2, frames // tubelet, rows, columns),
        flow=np.stack([flow, -flow]),
    )


def test_the_data_of_the_page_are_those_of_the_clip():
    clip = explored()
    data = checked(explore_page(clip, OUT)).data["clip"]
    assert (data["width"], data["height"], data["rows"], data["columns"], data["tubelet"]) == (32, 24, 3, 4, 2)
    assert (data["strategies"], data["ratios"]) == (["motion", "tube"], [0.75, 0.875])
    for ratio, of_ratio in enumerate(data["masks"]):
        for strategy, packed in enumerate(of_ratio):
            bits = np.unpackbits(np.frombuffer(base64.b64decode(packed), np.uint8), count=48)
            np.testing.assert_array_equal(bits.astype(bool), clip.visible[ratio, strategy].ravel())
    for way, name in enumerate(("forwards", "backwards")):
        steps = np.frombuffer(base64.b64decode(data["flow"][name]), np.int8).reshape(clip.flow.shape[1:])
        np.testing.assert_allclose(steps * data["flow"]["unit"], clip.flow[way], atol=data["flow"]["unit"])
    assert len(data["frames"]) == 8
    for address, frame in zip(data["frames"], clip.frames, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
            assert np.abs(np.asarray(image.convert("RGB"), float) - frame).mean() < 12


def test_the_flow_of_a_video_may_lie_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "enable_compilation_cache", lambda folder: None)
    video, size = tmp_path / "shapes.mp4", (32, 48)
    video.write_bytes(encode_mp4(motion_shapes.render(0, 0, size=size, frames=12).frames, 12))
    flow = [motion_shapes.true_flow(0, 0, size=size, frames=12, backward=way) for way in (False, True)]
    store_dense(video, np.stack(flow), tmp_path / "flow" / flow_path(video).name)
    fields = {
        "clip.frames": 4,
        "clip.size": 32,
        "model.patch": 8,
        "flow.source": "stored",
        "flow.path": tmp_path / "flow",
    }
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    command.main([str(video), "--ratios=0.5", f"--out={tmp_path}/page.html", *arguments])
    assert checked((tmp_path / "page.html").read_text()).data["clip"]["flow"] is not None


def test_every_control_and_panel_is_there():
    page = checked(explore_page(explored(), OUT))
    assert [one["aria-label"] for one in page.named("canvas")] == [
        "The clip, masked by motion", "The clip, masked by tube",
    ]  # fmt: skip
    kinds = [one["type"] for one in page.named("input")]
    assert kinds == ["range", "radio", "radio", "checkbox", "checkbox", "checkbox"]
    assert [one["id"] for one in page.named("input") if one["type"] == "checkbox"] == ["masks", "arrows", "characters"]
    assert [one["max"] for one in page.named("input") if one["type"] == "range"] == ["7"]
    assert len(page.named("button")) == 1


def test_without_flow_there_is_no_switch_for_it():
    page = checked(explore_page(dataclasses.replace(explored(), flow=None), OUT))
    assert "arrows" not in [one.get("id") for one in page.named("input")]
    assert page.data["clip"]["flow"] is None
    assert "flow on, off" not in " ".join(page.texts)


@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 99))
def test_agreement_is_the_share_in_common(count: int, masks: int, seed: int):
    rng = np.random.default_rng(seed)
    chosen = [set(rng.permutation(40)[:count].tolist()) for _ in range(masks)]
    visible = np.array([[token in one for token in range(40)] for one in chosen]).reshape(masks, 2, 4, 5)
    expected = [[len(one & other) / count for other in chosen] for one in chosen]
    np.testing.assert_allclose(agreement(visible), expected)


def test_the_matrix_of_each_ratio_is_on_the_page():
    clip = explored()
    page = checked(explore_page(clip, OUT))
    words = "\n".join(page.texts)
    for ratio, visible in zip(clip.ratios, clip.visible, strict=True):
        assert f"Agreement at mask ratio {ratio:g}" in words
        assert f"{100 * agreement(visible)[0, 1]:.0f}" in page.texts
    assert page.texts.count("100") == 4


@given(st.floats(0, 300), st.integers(0, 99))
def test_flow_in_eight_bits_is_off_by_half_a_unit(scale: float, seed: int):
    flow = np.float32(scale) * np.random.default_rng(seed).uniform(-1, 1, (2, 3, 2, 2, 2)).astype(np.float32)
    unit, values = packed_flow(flow)
    assert values.dtype == np.int8
    np.testing.assert_allclose(values * unit, flow, atol=0.501 * unit)


def test_a_page_stays_under_its_size_by_coarser_pictures(monkeypatch: pytest.MonkeyPatch):
    clip = explored()
    noise = np.random.default_rng(0).integers(0, 255, (8, 96, 128, 3), np.uint8)
    clip = dataclasses.replace(clip, frames=noise)
    whole = len(explore_page(clip, OUT))
    monkeypatch.setattr(explore, "MOST_BYTES", whole - 1)
    assert len(explore_page(clip, OUT)) < whole
    monkeypatch.setattr(explore, "MOST_BYTES", 10_000)
    with pytest.raises(FileError, match=r"explore\.html: would be larger than .* fewer frames"):
        explore_page(clip, OUT)


def test_the_largest_usual_clip_is_far_below_the_limit():
    """64 frames of 224x224 noise, the worst case for WebP, eight strategies, nine ratios."""
    rng = np.random.default_rng(0)
    clip = ExploredClip(
        "noise", "", rng.integers(0, 255, (64, 224, 224, 3), np.uint8), 2, list("abcdefgh"),
        list(np.linspace(0.1, 0.9, 9)), rng.uniform(size=(9, 8, 32, 14, 14)) < 0.5, np.zeros((2, 63, 14, 14, 2)),
    )  # fmt: skip
    assert len(explore_page(clip, OUT)) < explore.MOST_BYTES


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_inject_nothing(name: str):
    plain = explored()
    hostile = checked(explore_page(dataclasses.replace(plain, title=name, note=name, strategies=[name, name]), OUT))
    usual = checked(explore_page(plain, OUT))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in usual.elements]
    assert hostile.data["clip"]["strategies"] == [name, name]
