import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data.decode import decode_frames
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.views import (
    ViewSpec,
    crop_starts,
    cut_views,
    dense_indices,
    read_views,
    shorter_side_to,
    uniform_indices,
)
from mgmae_jax.errors import ConfigError, VideoError

FACTS = json.loads((Path(__file__).parents[1] / "golden" / "recipe_facts.json").read_text())


@pytest.mark.parametrize("case", FACTS["test_clips"], ids=lambda case: f"{case['num_frames']} frames")
def test_clips_are_those_of_the_official_programs(case):
    frames = case["num_frames"]
    assert uniform_indices(frames, clip_frames=16, clips=2).tolist() == case["uniform_2_clips"]
    assert dense_indices(frames, clip_frames=16, stride=4, clips=5).tolist() == case["dense_stride4_5_clips"]


@pytest.mark.parametrize("case", FACTS["three_crops"])
def test_crops_are_those_of_the_official_programs(case):
    longer = max(case["height"], case["width"])
    assert crop_starts(longer, size=case["crop"], crops=3) == case["starts"]
    # And they lie where the starts say: every pixel holds its own coordinate.
    y, x = np.mgrid[: case["height"], : case["width"]]
    frames = np.stack([y // 256, y % 256, x % 256], axis=-1).astype(np.uint8)[None]
    for cut, start in zip(cut_views(frames, size=case["crop"], crops=3), case["starts"], strict=True):
        across = case["width"] >= case["height"]
        assert cut[0, 0, 0].tolist() == ([0, 0, start] if across else [0, start, 0])


def test_one_clip_is_the_middle_and_one_crop_the_centre():
    assert uniform_indices(16, clip_frames=4, clips=1).tolist() == [[2, 6, 10, 14]]
    assert dense_indices(40, clip_frames=4, stride=2, clips=1).tolist() == [[16, 18, 20, 22]]
    assert crop_starts(100, size=60, crops=1) == [20]


@given(
    num_frames=st.integers(1, 900), clip_frames=st.integers(1, 64), stride=st.integers(1, 9), clips=st.integers(1, 9)
)
def test_indices_are_frames_of_the_video_in_order(num_frames, clip_frames, stride, clips):
    for indices in (
        uniform_indices(num_frames, clip_frames=clip_frames, clips=clips),
        dense_indices(num_frames, clip_frames=clip_frames, stride=stride, clips=clips),
    ):
        assert indices.shape == (clips, clip_frames)
        assert indices.dtype == np.int32
        assert indices.min() >= 0
        assert indices.max() < num_frames
        assert (np.diff(indices, axis=1) >= 0).all()
        assert (np.diff(indices, axis=0) >= 0).all()


@given(length=st.integers(8, 999), crops=st.integers(2, 7))
def test_crops_reach_from_end_to_end(length, crops):
    starts = crop_starts(length, size=8, crops=crops)
    assert starts[0] == 0
    assert starts[-1] == length - 8
    assert starts == sorted(starts)


@pytest.mark.parametrize(("height", "width", "expected"), [(240, 320, (224, 298)), (320, 240, (298, 224))])
def test_the_shorter_side_is_resized_as_the_official_programs_do(height, width, expected):
    assert shorter_side_to(np.zeros((1, height, width, 3), np.uint8), 224).shape[1:3] == expected


def test_views_are_the_crops_of_the_frames(make_video):
    path = str(make_video("a.mp4", 30, height=48, width=80))
    views = ViewSpec(ClipSpec(4, 3, 48), "dense", clips=3, crops=2)
    found = read_views(path, views)
    assert (found.shape, found.dtype) == ((6, 4, 48, 48, 3), np.uint8)
    for clip, indices in enumerate(dense_indices(30, clip_frames=4, stride=3, clips=3)):
        frames = decode_frames(path, indices)
        np.testing.assert_array_equal(found[2 * clip], frames[:, :, :48])
        np.testing.assert_array_equal(found[2 * clip + 1], frames[:, :, 32:])


def test_a_video_shorter_than_a_clip_repeats_frames(make_video):
    found = read_views(str(make_video("short.mp4", 3)), ViewSpec(ClipSpec(8, 4, 32), "uniform", clips=2))
    assert found.shape == (2, 8, 32, 32, 3)
    np.testing.assert_array_equal(found[0, 0], found[0, 2])


def test_an_unreadable_video_is_named(tmp_path):
    with pytest.raises(VideoError, match=r"gone\.mp4: no such file"):
        read_views(str(tmp_path / "gone.mp4"), ViewSpec(ClipSpec(4, 1, 32)))


@pytest.mark.parametrize(("change", "field"), [({"sampling": "random"}, "sampling"), ({"clips": 0}, "clips")])
def test_wrong_views_name_the_field(change, field):
    with pytest.raises(ConfigError, match=rf"config\.eval\.{field}="):
        ViewSpec(ClipSpec(4, 1, 32), **change)
