import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.show.panels import HIDDEN_GREY, clip_rows, flow_scale, font, masked_frames, wrap
from tests.show.clip_example import example


def test_masked_frames_hide_exactly_the_hidden_cubes():
    frames = np.full((4, 16, 24, 3), 7, np.uint8)
    visible = np.zeros((2, 2, 3), bool)
    visible[1, 0, 2] = True
    masked = masked_frames(frames, visible, patch=8, tubelet=2)
    expected = np.full_like(frames, HIDDEN_GREY)
    expected[2:4, 0:8, 16:24] = 7
    np.testing.assert_array_equal(masked, expected)


def test_flow_scale_ignores_outliers_and_noise():
    flow = np.zeros((2, 40, 40, 2), np.float32)
    assert flow_scale(flow) == 1.0
    flow[..., 0] = 3.0
    flow[0, 0, 0] = 500.0
    assert flow_scale(flow) == 3.0


def test_rows_without_reconstruction():
    clip = example()
    arguments = {name: clip[name] for name in ("frames", "flow", "mask_map", "visible", "patch", "tubelet")}
    rows = clip_rows(**arguments, reconstruction=None)
    assert list(rows) == ["frames", "flow_x", "flow_y", "flow", "map", "masked"]
    for row in rows.values():
        assert row.images.shape == clip["frames"].shape
        assert row.images.dtype == np.uint8


def test_a_constant_mask_map_is_drawn():
    clip = example()
    arguments = {name: clip[name] for name in ("frames", "flow", "visible", "patch", "tubelet")}
    rows = clip_rows(**arguments, mask_map=np.ones_like(clip["mask_map"]), reconstruction=None)
    assert len(np.unique(rows["map"].images.reshape(-1, 3), axis=0)) == 1


@given(st.lists(st.text("abc", min_size=1, max_size=9), max_size=20), st.integers(80, 300))
def test_wrapped_lines_fit_and_keep_every_word(words, width):
    lines = wrap(" ".join(words), font(13), width)
    assert " ".join(lines).split() == words
    assert all(font(13).getlength(line) <= width for line in lines)
