import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.show.flow_color import color_wheel, component_to_rgb, flow_to_rgb


def color(x: float, y: float, max_magnitude: float = 1.0) -> list[int]:
    return flow_to_rgb(np.full((1, 1, 2), [x, y], np.float32), max_magnitude)[0, 0].tolist()


def test_no_motion_is_white():
    assert color(0, 0) == [255, 255, 255]


def test_right_is_red():
    assert color(1, 0) == [255, 0, 0]


@pytest.mark.parametrize(
    ("direction", "strong", "weak"),
    [((0, 1), "RG", "B"), ((-1, 0), "GB", "R"), ((0, -1), "B", "G")],
    ids=["down is yellow", "left is cyan", "up is blue"],
)
def test_directions(direction, strong, weak):
    rgb = dict(zip("RGB", color(*direction), strict=True))
    assert min(rgb[c] for c in strong) > 180
    assert all(rgb[c] < 60 for c in weak)


def test_the_corners_of_the_middlebury_wheel():
    # 55 hues: 15 from red to yellow, 6 to green, 4 to cyan, 11 to blue, 13 to magenta, 6 to red.
    expected = {
        0: (255, 0, 0),
        15: (255, 255, 0),
        21: (0, 255, 0),
        25: (0, 255, 255),
        36: (0, 0, 255),
        49: (255, 0, 255),
    }
    for hue, rgb in expected.items():
        angle = 2 * np.pi * hue / 55
        np.testing.assert_allclose(color(np.cos(angle), np.sin(angle)), rgb, atol=1)


@given(angle=st.floats(-np.pi, np.pi), length=st.floats(0.1, 1.0), scale=st.floats(0.1, 100.0))
def test_only_the_direction_and_the_relative_length_count(angle, length, scale):
    x, y = length * np.cos(angle), length * np.sin(angle)
    np.testing.assert_allclose(color(x, y), color(scale * x, scale * y, scale), atol=1)


@given(angle=st.floats(-np.pi, np.pi))
def test_the_hue_has_no_seam(angle):
    step = 1e-3
    here, there = (color(np.cos(a), np.sin(a)) for a in (angle, angle + step))
    np.testing.assert_allclose(here, there, atol=2)


def test_longer_flow_is_fuller_and_beyond_the_maximum_darker():
    assert color(0.2, 0)[1] > color(0.8, 0)[1]
    assert color(3, 0) == [191, 0, 0]


def test_components_diverge_from_grey():
    negative, zero, positive = component_to_rgb(np.asarray([[-2.0, 0.0, 2.0]]), 2.0)[0].astype(int)
    assert np.ptp(zero) < 5
    assert negative[2] > negative[0] + 100
    assert positive[0] > positive[2] + 100
    np.testing.assert_array_equal(component_to_rgb(np.asarray([[9.0]]), 2.0)[0, 0], positive)


def test_the_wheel_shows_each_direction_where_it_points():
    wheel = color_wheel(101)
    assert wheel.shape == (101, 101, 3)
    assert (wheel[0, 0] == 255).all()
    assert (wheel[50, 50] > 240).all()
    right, down = wheel[50, 98].astype(int), wheel[98, 50].astype(int)
    assert right[0] > 200 > 60 > right[1]
    assert min(down[0], down[1]) > 200 > 60 > down[2]
