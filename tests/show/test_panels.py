import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.show.panels import HIDDEN_GREY, clip_rows, flow_scale, font, masked_frames, wrap
from tests.show.clip_example import BASE, PATCH, TUBELET, example


def test_visible_cubes_are_exact_and_hidden_ones_faint():
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
    visible = np.zeros((2, 2, 3), bool)
    visible[1, 0, 2] = True
    masked = masked_frames(frames, visible, patch=8, tubelet=2)
    shown = np.zeros((4, 16, 24), bool)
    shown[2:4, 0:8, 16:24] = True
    np.testing.assert_array_equal(masked[shown], frames[shown])
    hidden = masked[~shown].astype(int)
    assert np.abs(hidden - HIDDEN_GREY).max() <= 21  # a sixth of the contrast
    assert (np.ptp(hidden, axis=-1) == 0).all()  # and no colour


def test_flow_scale_ignores_outliers_and_noise():
    flow = np.zeros((2, 40, 40, 2), np.float32)
    assert flow_scale(flow) == 1.0
    flow[..., 0] = 3.0
    flow[0, 0, 0] = 500.0
    assert flow_scale(flow) == 3.0


def test_rows_without_reconstruction():
    clip = example()
    rows = clip_rows(clip._replace(reconstruction=None))
    assert list(rows) == ["frames", "flow_x", "flow_y", "flow", "map", "masked", "tube"]
    for row in rows.values():
        assert row.images.shape == clip.frames.shape
        assert row.images.dtype == np.uint8


def test_rows_without_flow():
    assert list(clip_rows(example()._replace(flow=None))) == ["frames", "masked", "reconstruction"]


def test_the_tube_mask_shows_the_cubes_of_the_base_frame_at_all_times():
    clip = example()
    tokens = np.repeat(clip.visible[BASE // TUBELET][None], len(clip.visible), axis=0)
    expected = masked_frames(clip.frames, tokens, patch=PATCH, tubelet=TUBELET)
    np.testing.assert_array_equal(clip_rows(clip)["tube"].images, expected)


def test_flow_beyond_the_scale_has_the_colour_of_the_rim():
    flow = np.zeros_like(example().flow)
    flow[0, 0, 0], flow[1:, 0] = [900.0, 0.0], [3.0, 0.0]
    row = clip_rows(example()._replace(flow=flow))["flow"]
    assert flow_scale(flow) == 3.0
    np.testing.assert_array_equal(row.images[0, 0, 0], [255, 0, 0])


def test_a_constant_mask_map_is_drawn():
    clip = example()
    rows = clip_rows(clip._replace(mask_map=np.ones_like(clip.mask_map)))
    assert len(np.unique(rows["map"].images.reshape(-1, 3), axis=0)) == 1


@given(st.lists(st.text("abc", min_size=1, max_size=9), max_size=20), st.integers(80, 300))
def test_wrapped_lines_fit_and_keep_every_word(words, width):
    lines = wrap(" ".join(words), font(13), width)
    assert " ".join(lines).split() == words
    assert all(font(13).getlength(line) <= width for line in lines)
