"""Blocks that move: where they go, and what is visible then."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.moving_blocks import block_count, block_paths, blocks_picture, mean_flow
from mgmae_jax.masking.strategies import draw_mask, find_strategy
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid

GRID = TokenGrid(6, 48, 64, tubelet=2, patch=8)
OPTIONS = MaskOptions(strategy="moving_blocks", ratio=0.75)
SIDES = jnp.array([[64.0, 48.0]])
draw = jax.jit(lambda key, flow, options: draw_mask(MaskInput(key, GRID, options, flow=flow)), static_argnums=2)
START = jnp.array([[20.0, 20.0], [40.0, 24.0]])
paths_of = jax.jit(functools.partial(block_paths, block=0.25, height=48, width=64), static_argnames="base")


def scene_flow(base, direction, velocity=(2.0, -1.0), size=(48, 64)):
    """A scene that moves by `velocity` a frame, and which flows start in the nearer frame."""
    source, target = neighbour_pairs(6, base, direction)
    flow = np.float32(target - source)[:, None, None, None] * jnp.array(velocity, jnp.float32).reshape(1, 1, 1, 2)
    return jnp.broadcast_to(flow, (5, *size, 2)), jnp.asarray(abs(source - base) < abs(target - base))


@pytest.mark.parametrize("direction", ["to_base", "from_base", "to_earlier"])
@pytest.mark.parametrize("base", [0, 3, 5])
def test_blocks_move_with_the_scene_whichever_way_the_flow_goes(base, direction):
    flow, outwards = scene_flow(base, direction)
    paths = paths_of(START, flow, base, outwards)
    away = jnp.arange(6, dtype=jnp.float32) - base
    expected = START[None] + away[:, None, None] * jnp.array([[[2.0, -1.0]]])
    np.testing.assert_allclose(paths, expected, atol=1e-4)


def test_flow_at_points_moves_blocks_as_flow_of_pixels_does():
    flow, outwards = scene_flow(3, "to_base")
    points, _ = scene_flow(3, "to_base", size=(6, 8))
    np.testing.assert_allclose(paths_of(START, points, 3, outwards), paths_of(START, flow, 3, outwards), atol=1e-4)


def test_a_traced_base_gives_what_a_static_one_gives():
    flow, outwards = scene_flow(2, "to_base")
    traced = jax.jit(functools.partial(block_paths, block=0.25, height=48, width=64))
    np.testing.assert_array_equal(traced(START, flow, jnp.int32(2), outwards), paths_of(START, flow, 2, outwards))


def test_each_block_follows_what_it_covers():
    flow, outwards = scene_flow(0, "from_base", (3.0, 0.0))
    flow = flow.at[:, :, 32:].set(0.0)
    start = jnp.array([[10.0, 20.0], [52.0, 20.0]])  # 16 pixels wide
    paths = paths_of(start, flow, 0, outwards)
    np.testing.assert_allclose(paths[:, 1], np.broadcast_to(start[1], (6, 2)), atol=1e-4)
    np.testing.assert_allclose(paths[:4, 0, 0], [10, 13, 16, 19], atol=1e-4)


def test_a_part_of_every_block_stays_in_the_frame():
    flow, outwards = scene_flow(3, "to_base", (1e6, -1e6))
    paths = paths_of(START, flow, 3, outwards)
    np.testing.assert_allclose(paths[4:], np.broadcast_to(np.float32([63.5 + 6.4, -0.5 - 4.8]), (2, 2, 2)), rtol=1e-5)
    np.testing.assert_allclose(paths[:3], np.broadcast_to(np.float32([-0.5 - 6.4, 47.5 + 4.8]), (3, 2, 2)), rtol=1e-5)


def test_the_mean_is_that_of_the_covered_area():
    flow = jax.random.normal(jax.random.key(0), (48, 64, 2))
    centres = jnp.array([[9.5, 19.5], [0.0, 47.0]])
    mean = mean_flow(flow, centres, jnp.array([[4.0, 6.0]]), SIDES)
    np.testing.assert_allclose(mean[0], flow[17:23, 8:12].mean((0, 1)), atol=1e-5)
    # From 1.5 pixels before the border, and 2.5 pixels after the last but one row: half a pixel of the outermost.
    x = np.float32([1, 1, 0.5])
    y = np.float32([0.5, 1, 1, 1])
    corner = (flow[44:, :3] * (y[:, None] * x[None])[..., None]).sum((0, 1)) / (x.sum() * y.sum())
    np.testing.assert_allclose(mean[1], corner, atol=1e-5)


def test_a_moving_scene_takes_its_hidden_tokens_along():
    """By a patch from tubelet to tubelet: what is hidden in the middle of the frame stays hidden."""
    flow, _ = scene_flow(3, "to_base", (4.0, 0.0))
    moved = 0
    for seed in range(6):
        split = draw(jax.random.key(seed), flow, OPTIONS)
        hidden = np.ones(GRID.tokens, bool)
        hidden[split.visible] = False
        hidden = hidden.reshape(3, 6, 8)
        moved += (hidden[1, :, 2:5] == hidden[2, :, 3:6]).mean() / 6
    still = draw(jax.random.key(0), jnp.zeros_like(flow), OPTIONS)
    places = np.asarray(still.visible).reshape(3, -1) % GRID.per_tubelet
    assert (places == places[0]).all()
    assert moved > 0.85


@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_blocks_hide_about_the_mask_ratio(ratio):
    grid = TokenGrid(2, 224, 224, patch=16)
    options = MaskOptions(strategy="moving_blocks", ratio=ratio)
    flow = jnp.zeros((1, 14, 14, 2))
    picture = jax.jit(jax.vmap(lambda key: blocks_picture(MaskInput(key, grid, options, flow=flow))))
    outside = picture(jax.random.split(jax.random.key(0), 32)) == 1
    assert abs(1 - outside.mean() - ratio) < 0.06
    # A corner has 0.81 of the places that hide the middle.
    assert abs((~outside[:, :, :16, :16]).mean() - (1 - (1 - ratio) ** 0.81)) < 0.15


def test_tokens_in_blocks_are_shown_last():
    options = MaskOptions(strategy="moving_blocks", ratio=0.3)
    ask = MaskInput(jax.random.key(1), GRID, options, flow=jnp.zeros((5, 48, 64, 2)))
    centres = np.asarray(jax.jit(lambda: blocks_picture(ask))())[:, 4::8, 4::8].reshape(3, 2, -1).mean(1)
    split = draw(ask.key, ask.flow, options)
    free = (centres > 0.99).sum()
    hidden = np.ones(GRID.tokens, bool)
    hidden[split.visible] = False
    assert block_count(0.3, 0.4) == 4
    assert 0 < free < GRID.tokens
    assert centres.reshape(-1)[hidden].mean() < centres.reshape(-1)[split.visible].mean()


@pytest.mark.parametrize("block", [0.0, 1e-9, 1e-3, 1.0, -0.5, float("nan")])
def test_a_block_is_a_part_of_the_frame(block):
    with pytest.raises(ConfigError, match=r"config\.mask\.block="):
        find_strategy(GRID, MaskOptions(strategy="moving_blocks", ratio=0.75, block=block))


def test_points_that_cannot_be_followed_are_named():
    with pytest.raises(ConfigError, match=r"config\.mask\.spacing=3"):
        find_strategy(GRID, MaskOptions(strategy="moving_blocks", ratio=0.75, warp="trajectory", spacing=3))
