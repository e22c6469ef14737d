"""Masks by motion energy and by frame difference."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.energy import absolute_difference, flow_magnitude, magnitude_picture, select_by_energy
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.strategies import draw_mask, find_strategy
from mgmae_jax.ops.tokens import TokenGrid

GRID = TokenGrid(6, 32, 48, tubelet=2, patch=8)
KEY = jax.random.key(0)


def moving_square(grid: TokenGrid = GRID) -> tuple[jax.Array, jax.Array]:
    """A square of a token's size that moves 4 pixels to the right a frame on a dark ground: clip, flow to the base."""
    clip = np.zeros((grid.frames, grid.height, grid.width, 3), np.uint8)
    flow = np.zeros((grid.frames - 1, grid.height, grid.width, 2), np.float32)
    base = grid.frames // 2
    for frame in range(grid.frames):
        square = (slice(8, 16), slice(8 + 4 * frame, 16 + 4 * frame))
        clip[frame][square] = 200
        if frame != base:
            flow[frame - (frame > base)][square] = (4, 0) if frame < base else (-4, 0)
    return jnp.asarray(clip), jnp.asarray(flow)


def ask_for(strategy: str, **mask) -> MaskInput:
    clip, flow = moving_square()
    return MaskInput(KEY, GRID, MaskOptions(**{"strategy": strategy, "ratio": 1 - 2 / 24, **mask}), clip, flow)


def shown(split) -> np.ndarray:
    """The visible tokens as booleans [tubelet, row, column]."""
    visible = np.zeros(GRID.tokens, bool)
    visible[np.asarray(split.visible)] = True
    return visible.reshape(GRID.tubelets, GRID.rows, GRID.columns)


@pytest.mark.parametrize("strategy", ["motion_energy", "frame_difference"])
def test_the_most_moving_tokens_are_visible(strategy):
    visible = shown(jax.jit(lambda: draw_mask(ask_for(strategy)))())
    # The square covers the columns 1 to 2, 2 to 3, 3 to 4 of row 1 in the three tubelets.
    for tubelet in range(3):
        assert visible[tubelet, 1, 1 + tubelet : 3 + tubelet].all()
    assert visible.sum() == 6


@pytest.mark.parametrize("strategy", ["motion_energy", "frame_difference"])
@pytest.mark.parametrize("select", ["tubelet", "clip"])
def test_the_most_moving_tokens_are_hidden(strategy, select):
    # All places but two are visible, in every tubelet or on the whole.
    options = {"ratio": 2 / 24, "prefer": "hidden", "select": select}
    hidden = ~shown(jax.jit(lambda: draw_mask(ask_for(strategy, **options)))())
    for tubelet in range(3):
        assert hidden[tubelet, 1, 1 + tubelet : 3 + tubelet].all()
    assert hidden.sum() == 6


def test_the_clip_level_follows_the_motion_through_time():
    still = moving_square()[1].at[:3].set(0)  # nothing moves before the base frame, which is in the second tubelet
    for select, counts in (("tubelet", [1, 1, 1]), ("clip", [0, 1, 2])):
        options = MaskOptions(strategy="motion_energy", ratio=1 - 1 / 24, select=select)
        visible = shown(draw_mask(MaskInput(KEY, GRID, options, flow=still)))
        assert visible.sum((1, 2)).tolist() == counts


@pytest.mark.parametrize(
    ("options", "own"),
    [
        # For 4 frames with base 2, the pair that each frame's own flow belongs to; the base has the mean of 1 and 2.
        (MaskOptions(), [[0], [1], [1, 2], [2]]),
        (MaskOptions(base_frame="first"), [[0], [0], [1], [2]]),
        (MaskOptions(preset="released_code"), [[0], [0], [1], [2]]),
        # Flow from the base: the base has two flows of its own, and the ends have that of the pair they are in.
        (MaskOptions(warp="forward"), [[0], [0], [1, 2], [2]]),
    ],
    ids=["to_base", "first", "to_earlier", "from_base"],
)
def test_a_frame_has_the_magnitude_of_its_own_flow(options, own):
    grid = TokenGrid(4, 8, 8, tubelet=1, patch=4)
    size = jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    flow = jnp.stack([jnp.broadcast_to(0.6 * size, (3, 8, 8)), jnp.broadcast_to(-0.8 * size, (3, 8, 8))], axis=-1)
    energy = flow_magnitude(MaskInput(KEY, grid, options, flow=flow))
    expected = [np.mean([10.0**pair for pair in pairs]) for pairs in own]
    np.testing.assert_allclose(energy[:, 3, 5], expected, rtol=1e-6)


def test_a_frame_has_the_difference_to_its_neighbours():
    grid = TokenGrid(3, 4, 4, tubelet=1, patch=4)
    level = jnp.array([0, 51, 255], jnp.uint8).reshape(3, 1, 1, 1)
    clip = jnp.broadcast_to(level, (3, 4, 4, 3))
    difference = absolute_difference(MaskInput(KEY, grid, MaskOptions(), clip))
    np.testing.assert_allclose(difference[:, 1, 2], [0.2, 0.5, 0.8], rtol=1e-6)


def test_points_and_pixels_show_the_same_tokens():
    _, flow = moving_square()
    options = MaskOptions(strategy="motion_energy", ratio=1 - 2 / 24)
    points = dataclasses.replace(options, warp="trajectory", spacing=4)
    cells = flow.reshape(5, 8, 4, 12, 4, 2).mean((2, 4))
    expected = draw_mask(MaskInput(KEY, GRID, options, flow=flow))
    np.testing.assert_array_equal(draw_mask(MaskInput(KEY, GRID, points, flow=cells)).visible, expected.visible)
    shown, hidden = (
        np.asarray(magnitude_picture(MaskInput(KEY, GRID, dataclasses.replace(points, prefer=prefer), flow=cells)))
        for prefer in ("visible", "hidden")
    )
    assert shown.shape == (6, 32, 48)
    assert shown[0, 11, 11] > 3 > shown[0, 30, 30] == 0  # within the square, and away from it
    np.testing.assert_array_equal(hidden, -shown)


def draws(energy: np.ndarray, count: int, **mask) -> np.ndarray:
    """How often each of four tokens is visible in 2000 draws of `count` of them."""
    grid = TokenGrid(1, 4, 16, tubelet=1, patch=4)
    options = MaskOptions(strategy="motion_energy", ratio=1 - count / 4, **mask)
    volume = jnp.asarray(np.repeat(np.broadcast_to(np.float32(energy), (1, 4, 4)), 4, axis=2))
    return np.bincount(np.asarray(chosen(volume, grid, options)).ravel(), minlength=4) / 2000


@functools.partial(jax.jit, static_argnums=(1, 2))
def chosen(volume, grid, options):
    return jax.vmap(lambda key: select_by_energy(MaskInput(key, grid, options), volume))(jax.random.split(KEY, 2000))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_draw_is_in_proportion_to_the_exponential_of_the_energy(temperature):
    energy = np.array([1.0, 2.0, 3.0, 6.0])
    standard = (energy - energy.mean()) / energy.std()
    weights = np.exp(standard / temperature)
    for scale in (1.0, 1e-3, 1e5):
        found = draws(energy * scale, 1, temperature=temperature)
        # 2000 draws: standard deviation of a share at most 0.012.
        np.testing.assert_allclose(found, weights / weights.sum(), atol=0.045)


def test_a_temperature_of_0_takes_the_first_and_breaks_ties_by_the_key():
    assert draws(np.array([1.0, 2.0, 3.0, 6.0]), 2).tolist() == [0, 0, 1, 1]
    assert draws(np.array([1.0, 2.0, 3.0, 6.0]), 2, prefer="hidden").tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(draws(np.array([1.0, 3.0, 3.0, 6.0]), 2), [0, 0.5, 0.5, 1], atol=0.045)


def test_a_still_clip_is_drawn_evenly_at_any_temperature():
    rounding = np.float32([1, 1 + 2e-7, 1, 1]) * 5
    np.testing.assert_allclose(draws(rounding, 1, temperature=1.0), 0.25, atol=0.045)


@pytest.mark.parametrize("temperature", [0.5, 1e-3])
def test_of_black_frames_each_tubelet_is_drawn_for_itself(temperature):
    grid = TokenGrid(2, 16, 16, tubelet=1, patch=4)
    options = MaskOptions(strategy="frame_difference", ratio=0.5, temperature=temperature)
    ask = MaskInput(KEY, grid, options)
    places = np.sort(jax.jit(lambda energy: select_by_energy(ask, energy))(jnp.zeros((2, 16, 16)))).reshape(2, 8) % 16
    assert set(places[0]) != set(places[1])  # with scores that are no numbers, both would have the order of ties


@pytest.mark.parametrize(
    ("frames", "mask", "field"),
    [
        (1, {"strategy": "motion_energy"}, "clip.frames"),
        (1, {"strategy": "frame_difference"}, "clip.frames"),
        (2, {"strategy": "motion_energy", "warp": "trajectory", "spacing": 3}, "mask.spacing"),
    ],
)
def test_what_cannot_work_is_named(frames, mask, field):
    with pytest.raises(ConfigError, match=field):
        find_strategy(TokenGrid(frames, 32, 32, tubelet=1, patch=8), MaskOptions(ratio=0.5, **mask))
