"""Holes where the neighbouring frame does not show a pixel: a square that moves over a still background."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.motion import motion_volume
from mgmae_jax.masking.occlusion import disagree, occluded
from mgmae_jax.masking.strategies import draw_mask, find_strategy
from mgmae_jax.masking.trajectory import end_points
from mgmae_jax.masking.volume import visibility_volume
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid

HEIGHT, WIDTH, FRAMES, STEP = 32, 64, 5, 6
GRID = TokenGrid(FRAMES, HEIGHT, WIDTH, tubelet=1, patch=8)
KEY = jax.random.key(0)
STATIC = ("grid", "options")
volume_of = jax.jit(visibility_volume, static_argnames=("base", "hole_fill"))
motion_volume_of = jax.jit(motion_volume, static_argnames=STATIC)


def covered(frame):
    """Where the square is: 12 pixels to a side, 6 pixels further to the right in every frame."""
    shown = np.zeros((HEIGHT, WIDTH), bool)
    shown[8:20, 10 + STEP * frame : 22 + STEP * frame] = True
    return shown


def true_flow(source, target):
    flow = np.zeros((len(source), HEIGHT, WIDTH, 2), np.float32)
    for out, a, b in zip(flow, source, target, strict=True):
        out[covered(a), 0] = STEP * (b - a)
    return jnp.asarray(flow)


def ways(base):
    source, target = neighbour_pairs(FRAMES, base)
    return true_flow(source, target), true_flow(target, source)


def uncovered(base):
    """What each frame shows and its neighbour nearer the base frame does not: a strip of 6 pixels."""
    strips = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for frame in range(FRAMES):
        if frame != base:
            strips[frame] = covered(frame + (1 if frame < base else -1)) & ~covered(frame)
    return strips


@pytest.mark.parametrize("base", [0, 2, 4])
def test_what_the_neighbour_hides_is_a_hole_and_nothing_else(base):
    flow, other = ways(base)
    found = np.stack([occluded(one, back) for one, back in zip(flow, other, strict=True)])
    frames = [frame for frame in range(FRAMES) if frame != base]
    np.testing.assert_array_equal(found, uncovered(base)[frames])
    assert found.sum() == 4 * 12 * STEP


@pytest.mark.parametrize("base", [0, 2, 4])
def test_holes_are_filled_as_the_rule_says(base):
    flow, other = ways(base)
    start = jax.random.uniform(jax.random.key(1), (HEIGHT, WIDTH), minval=0.1)
    strips = uncovered(base)
    without = np.asarray(volume_of(start, flow, base, KEY, hole_fill="tube"))
    near = [frame for frame in (base - 1, base + 1) if 0 <= frame < FRAMES]
    invisible, tube, previous = (
        np.asarray(volume_of(start, flow, base, KEY, hole_fill=fill, other=other))
        for fill in ("invisible", "tube", "previous")
    )
    for frame in near:
        assert not invisible[frame][strips[frame]].any()
        np.testing.assert_array_equal(tube[frame][strips[frame]], np.asarray(start)[strips[frame]])
        np.testing.assert_array_equal(previous[frame], tube[frame])
        np.testing.assert_array_equal(invisible[frame][~strips[frame]], without[frame][~strips[frame]])
        # Without the rule the square leaves a copy of itself behind, which is the background's own place.
        moved = covered(base) & strips[frame]
        np.testing.assert_allclose(without[frame][moved], np.asarray(start)[moved], atol=1e-6)
    assert (invisible != without).any()


def test_the_square_itself_keeps_its_visibility():
    flow, other = ways(2)
    start = jnp.asarray(covered(2), jnp.float32)
    ghosts = np.asarray(volume_of(start, flow, 2, KEY))
    clean = np.asarray(volume_of(start, flow, 2, KEY, hole_fill="invisible", other=other))
    for frame in range(FRAMES):
        np.testing.assert_allclose(clean[frame], covered(frame), atol=1e-6)
    assert (ghosts[3] > covered(3)).sum() == 12 * STEP


def test_paths_end_where_a_point_is_hidden():
    flow, other = ways(2)
    points_flow, points_other = flow[:, 3::8, 3::8], other[:, 3::8, 3::8]
    ends = jax.jit(functools.partial(end_points, base=2, height=HEIGHT, width=WIDTH))
    free, seen = ends(points_flow)
    assert (seen == 1).all()
    stopped, seen = ends(points_flow, other=points_other)
    lost = np.asarray(seen) < 0.5
    assert lost[1].any()
    assert lost[3].any()
    assert not lost[2].any()
    np.testing.assert_array_equal(stopped[2], free[2])


def test_flow_that_agrees_changes_nothing():
    flow = jnp.broadcast_to(jnp.array([3.0, -2.0]), (FRAMES - 1, HEIGHT, WIDTH, 2))
    for options in (MaskOptions(ratio=0.75), MaskOptions(ratio=0.75, warp="trajectory", spacing=4)):
        on = MaskOptions(**{**vars(options), "occlusion": "consistency"})
        expected = motion_volume_of(KEY, GRID, flow, options)
        inner = np.s_[:, 8:-8, 12:-12] if options.warp == "backward" else np.s_[:, 2:-2, 3:-3]
        got = motion_volume_of(KEY, GRID, jnp.concatenate([flow, -flow]), on)
        np.testing.assert_array_equal(got[inner], expected[inner])


def test_the_bound_grows_with_the_motion():
    assert not disagree(jnp.array([100.0, 0.0]), jnp.array([-90.0, 0.0]))
    assert disagree(jnp.array([100.0, 0.0]), jnp.array([-80.0, 0.0]))
    back = jnp.array([[-1.4, 0.0], [-1.75, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(disagree(jnp.broadcast_to(jnp.array([1.0, 0.0]), (3, 2)), back), [False, True, True])


@pytest.mark.parametrize("warp", ["backward", "trajectory"])
@pytest.mark.parametrize("scale", [0.0, 4.0, 1e6])
def test_masks_stay_exact_in_number(warp, scale):
    options = MaskOptions(ratio=0.75, warp=warp, occlusion="consistency")
    flow = jax.random.normal(KEY, (2 * (FRAMES - 1), HEIGHT, WIDTH, 2)) * scale
    split = jax.jit(draw_mask_of, static_argnames=STATIC)(KEY, flow, GRID, options)
    assert np.bincount(np.asarray(split.visible) // GRID.per_tubelet).tolist() == [8] * FRAMES
    assert sorted([*split.visible.tolist(), *split.target.tolist()]) == list(range(GRID.tokens))


def draw_mask_of(key, flow, grid, options):
    return draw_mask(MaskInput(key, grid, options, flow=flow))


def test_flow_one_way_is_too_little():
    options = MaskOptions(ratio=0.75, occlusion="consistency")
    with pytest.raises(ValueError, match=r"mask\.occlusion=consistency needs flow both ways, \[8, h, w, 2\]"):
        draw_mask(MaskInput(KEY, GRID, options, flow=ways(2)[0]))


@pytest.mark.parametrize("wrong", [{"warp": "forward"}, {"preset": "released_code"}])
def test_occlusion_goes_with_backward_warping_of_the_paper(wrong):
    with pytest.raises(ConfigError, match=r"config\.mask\.occlusion='consistency': give none with"):
        find_strategy(GRID, MaskOptions(ratio=0.75, occlusion="consistency", **wrong))
