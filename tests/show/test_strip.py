import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.show.panels import ACCENT, masked_frames
from mgmae_jax.show.strip import motion_strip, pick_columns
from tests.show.clip_example import BASE, PATCH, TUBELET, example

CELL = 48  # the width of the example: cells show its very pixels


def find(picture: np.ndarray, cell: np.ndarray) -> list[tuple[int, int]]:
    """Every (row, column) at which a picture shows a cell, pixel by pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(picture[..., 0], cell.shape[:2])
    corners = np.argwhere((windows[:, :, ::5, ::5] == cell[::5, ::5, 0]).all(axis=(2, 3)))
    height, width = cell.shape[:2]
    return [(y, x) for y, x in corners.tolist() if np.array_equal(picture[y : y + height, x : x + width], cell)]


def test_frames_masks_and_reconstructions_stand_in_columns():
    clip = example()
    picture = motion_strip(clip, cell=CELL)
    assert picture.dtype == np.uint8
    masked = masked_frames(clip.frames, clip.visible, patch=PATCH, tubelet=TUBELET)
    previous = -1
    for t in range(8):
        (frame,) = find(picture, clip.frames[t])
        places = find(picture, masked[t])
        (reconstruction,) = find(picture, clip.reconstruction[t])
        assert (frame[1], reconstruction[1]) == (frame[1], frame[1])
        assert any(x == frame[1] and frame[0] < y < reconstruction[0] for y, x in places)
        assert frame[1] > previous
        previous = frame[1]


def test_without_flow_nothing_of_motion_is_shown():
    picture = motion_strip(example()._replace(flow=None), cell=CELL)
    # Frames, masked and reconstruction are left of eight rows.
    assert motion_strip(example(), cell=CELL).shape[0] - picture.shape[0] == 5 * (32 + 4)
    assert not (picture == ACCENT).all(axis=-1).any()


def test_the_same_arguments_give_the_same_picture():
    np.testing.assert_array_equal(motion_strip(example()), motion_strip(example()))


def test_the_base_frame_is_marked():
    pictures = {}
    for base in (BASE, 6):
        picture = motion_strip(example()._replace(base=base), cell=CELL)
        pictures[base] = np.argwhere((picture == ACCENT).all(axis=-1))[:, 1]
    # The mark moves by as many columns as the base frame does.
    assert pictures[6].min() - pictures[BASE].min() == pytest.approx(3 * (CELL + 4), abs=1)


def test_the_size_follows_rows_columns_and_caption():
    full = motion_strip(example(), cell=CELL)
    without = motion_strip(example()._replace(reconstruction=None), cell=CELL)
    assert full.shape[0] - without.shape[0] == 32 + 4
    fewer = motion_strip(example(), cell=CELL, max_columns=5)
    assert full.shape[1] - fewer.shape[1] == 4 * (CELL + 4)
    wrapped = motion_strip(example()._replace(caption="word " * 100), cell=CELL)
    assert wrapped.shape[0] > full.shape[0]
    assert wrapped.shape[1] == full.shape[1]
    assert motion_strip(example()._replace(caption=""), cell=CELL).shape[0] < full.shape[0]


@given(frames=st.integers(1, 64), share=st.floats(0, 1), most=st.integers(1, 20))
def test_picked_columns_hold_the_base_frame(frames, share, most):
    base = round(share * (frames - 1))
    columns = pick_columns(frames, base, most)
    assert base in columns
    assert len(columns) <= min(frames, most)
    assert 0 <= columns[0] <= columns[-1] < frames
    steps = set(np.diff(columns).tolist())
    assert len(steps) <= 1
    assert min(steps, default=1) > 0


def test_all_columns_are_picked_where_they_fit():
    assert pick_columns(8, 3, 8) == list(range(8))
    assert pick_columns(16, 8, 8) == list(range(0, 16, 2))
