import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from mgmae_jax.masking.warp import warp_backward, warp_forward

HEIGHT, WIDTH = 5, 8
backward, forward = jax.jit(warp_backward), jax.jit(warp_forward)


def example(seed, scale):
    rng = np.random.default_rng(seed)
    visibility = rng.random((HEIGHT, WIDTH)).astype(np.float32)
    return visibility, (rng.normal(size=(HEIGHT, WIDTH, 2)) * scale).astype(np.float32)


def pulled(visibility, flow):
    """Backward warping one pixel after another."""
    warped, hole = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH), bool)
    rows, columns = np.indices(visibility.shape)
    for i, j in np.ndindex(HEIGHT, WIDTH):
        x, y = np.float32([j, i]) + flow[i, j]
        hole[i, j] = not (0 <= x <= WIDTH - 1 and 0 <= y <= HEIGHT - 1)
        weights = np.maximum(0, 1 - abs(rows - y)) * np.maximum(0, 1 - abs(columns - x))
        warped[i, j] = (weights * visibility).sum()
    return warped, hole


def pushed(visibility, flow):
    """Forward warping one pixel after another."""
    landed, total = np.zeros((2, HEIGHT, WIDTH))
    rows, columns = np.indices(visibility.shape)
    for i, j in np.ndindex(HEIGHT, WIDTH):
        x, y = np.float32([j, i]) + flow[i, j]
        weights = np.maximum(0, 1 - abs(rows - y)) * np.maximum(0, 1 - abs(columns - x))
        landed += weights * visibility[i, j]
        total += weights
    hole = total < 1e-6
    return np.where(hole, 0, landed / np.where(hole, 1, total)), total


@hypothesis.given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 0.5, 3.0, 20.0]))
@hypothesis.settings(max_examples=50)
def test_backward_against_its_definition(seed, scale):
    visibility, flow = example(seed, scale)
    warped, hole = backward(visibility, flow)
    expected, expected_hole = pulled(visibility, flow)
    np.testing.assert_allclose(warped, expected, atol=1e-5)
    np.testing.assert_array_equal(hole, expected_hole)


@hypothesis.given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 0.5, 3.0, 20.0]))
@hypothesis.settings(max_examples=50)
def test_forward_against_its_definition(seed, scale):
    visibility, flow = example(seed, scale)
    warped, hole = forward(visibility, flow)
    expected, total = pushed(visibility, flow)
    sure = abs(total - 1e-6) > 1e-6
    np.testing.assert_array_equal(np.asarray(hole)[sure], (total < 1e-6)[sure])
    # The mean of very little weight is a quotient of rounding errors.
    np.testing.assert_allclose(np.asarray(warped)[total > 1e-2], expected[total > 1e-2], atol=1e-3)
    assert (np.asarray(warped)[np.asarray(hole)] == 0).all()
    assert warped.min() >= 0
    assert warped.max() <= visibility.max() * 1.01


def test_no_motion_changes_nothing():
    visibility, flow = example(0, 0.0)
    for warp in (backward, forward):
        warped, hole = warp(visibility, flow)
        np.testing.assert_array_equal(warped, visibility)
        assert not hole.any()


def test_flow_is_x_then_y_and_points_to_the_source_or_the_target():
    visibility, _ = example(1, 0.0)
    flow = np.broadcast_to(np.float32([2, -1]), (HEIGHT, WIDTH, 2))
    warped, hole = backward(visibility, flow)
    np.testing.assert_array_equal(warped[1:, :-2], visibility[:-1, 2:])
    assert hole[0].all()
    assert hole[:, -2:].all()
    assert not hole[1:, :-2].any()
    warped, hole = forward(visibility, flow)
    np.testing.assert_array_equal(warped[:-1, 2:], visibility[1:, :-2])
    assert hole[-1].all()
    assert hole[:, :2].all()
    assert not hole[:-1, 2:].any()


@pytest.mark.parametrize("far", [1e6, -1e6, 1e12, -1e12])
@pytest.mark.parametrize("warp", [backward, forward])
def test_everything_outside_is_a_hole_of_value_zero(warp, far):
    visibility, _ = example(2, 0.0)
    warped, hole = warp(visibility, np.full((HEIGHT, WIDTH, 2), far, np.float32))
    assert hole.all()
    assert (warped == 0).all()


def test_what_meets_on_a_pixel_is_averaged():
    visibility = np.zeros((HEIGHT, WIDTH), np.float32)
    visibility[2, 3:5] = [1.0, 0.25]
    flow = np.full((HEIGHT, WIDTH, 2), 1e6, np.float32)
    flow[2, 3], flow[2, 4] = [1, 0], [0, 0]
    warped, hole = forward(visibility, flow)
    assert warped[2, 4] == pytest.approx(0.625)
    assert (~np.asarray(hole)).sum() == 1
