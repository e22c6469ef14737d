import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data.frames import dense_train_indices, pretrain_indices, uniform_train_indices
from tests.shared_data import shared


class StartsAt:
    """Stands in for a Generator that draws one given start."""

    def __init__(self, start: int) -> None:
        self.start = start

    def integers(self, stop: int) -> int:
        assert 0 <= self.start < stop
        return self.start


def test_agrees_with_the_official_program():
    for case in json.loads(shared("golden/recipe_facts.json").read_text())["pretrain_clip"]:
        for row in case["rows"]:
            indices = pretrain_indices(
                case["num_frames"], clip_frames=case["clip_len"], stride=case["stride"], rng=StartsAt(row["start"])
            )
            assert indices.tolist() == row["frames"], case


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [(1, [0, 0, 0, 0]), (2, [0, 0, 0, 0]), (4, [0, 2, 2, 2]), (7, [0, 2, 4, 4]), (8, [0, 2, 4, 6])],
)
def test_short_videos_repeat_the_frame_they_reach(num_frames, expected):
    assert pretrain_indices(num_frames, clip_frames=4, stride=2, rng=np.random.default_rng(0)).tolist() == expected


def test_every_start_is_drawn_about_equally_often():
    rng = np.random.default_rng(0)
    starts = [pretrain_indices(12, clip_frames=4, stride=2, rng=rng)[0] for _ in range(2000)]
    counts = np.bincount(starts)
    assert len(counts) == 5
    assert counts.min() > 320


@given(
    num_frames=st.integers(1, 2000), clip_frames=st.integers(1, 64), stride=st.integers(1, 20), seed=st.integers(0, 99)
)
def test_indices_are_frames_of_the_video(num_frames, clip_frames, stride, seed):
    indices = pretrain_indices(num_frames, clip_frames=clip_frames, stride=stride, rng=np.random.default_rng(seed))
    assert indices.shape == (clip_frames,)
    assert indices.dtype == np.int32
    assert indices.min() >= 0
    assert indices.max() < num_frames
    assert set(np.diff(indices)) <= {0, stride}


@given(
    num_frames=st.integers(1, 400), clip_frames=st.integers(1, 32), stride=st.integers(1, 8), seed=st.integers(0, 99)
)
def test_fine_tuning_clips_lie_in_the_video_and_never_go_back(num_frames, clip_frames, stride, seed):
    rng = np.random.default_rng(seed)
    for indices in (
        uniform_train_indices(num_frames, clip_frames=clip_frames, rng=rng),
        dense_train_indices(num_frames, clip_frames=clip_frames, stride=stride, rng=rng),
    ):
        assert indices.dtype == np.int32
        assert indices.shape == (clip_frames,)
        assert indices[0] >= 0
        assert indices[-1] < num_frames
        assert (np.diff(indices) >= 0).all()


def test_a_uniform_clip_takes_a_frame_of_every_part():
    rng = np.random.default_rng(0)
    drawn = np.stack([uniform_train_indices(37, clip_frames=4, rng=rng) for _ in range(500)])
    for part, column in enumerate(drawn.T):
        assert set(column) == set(range(part * 9, part * 9 + 9))  # parts of 37 // 4 frames


@pytest.mark.parametrize(
    ("num_frames", "start", "want"),
    [
        # 16 numbers from the start to 64 further on, whole, the last one frame earlier.
        (300, 100, [100, 104, 108, 112, 117, 121, 125, 129, 134, 138, 142, 146, 151, 155, 159, 163]),
        (65, 0, [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]),
        # Too short: 20 // 4 numbers from 0 to 20, then the last frame.
        (20, 0, [0, 5, 10, 15, 19] + [19] * 11),
        (64, 0, [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]),
        (3, 0, [2] * 16),
    ],
)
def test_dense_clips_by_hand(num_frames, start, want):
    assert dense_train_indices(num_frames, clip_frames=16, stride=4, rng=StartsAt(start)).tolist() == want
