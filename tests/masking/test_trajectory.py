"""Masks by following points: the paths, and how far they are those of warped maps."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.base_map import gaussian_mixture, gaussian_mixture_at, token_centres
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.motion import motion_volume
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.masking.trajectory import end_points, trajectory_volume
from mgmae_jax.ops.sampling import pixel_grid
from mgmae_jax.ops.tokens import TokenGrid

HEIGHT, WIDTH, CELL = 48, 64, 8
ROWS, COLUMNS, FRAMES = HEIGHT // CELL, WIDTH // CELL, 7
GRID = TokenGrid(8, 128, 160)


@functools.partial(jax.jit, static_argnames=("hole_fill",))
def paths(flow, base, hole_fill="tube"):
    return end_points(flow, base, height=HEIGHT, width=WIDTH, hole_fill=hole_fill)


@functools.partial(jax.jit, static_argnames=("grid", "options"))
def sample(key, flow, grid, options):
    return draw_mask(MaskInput(key, grid, options, flow=flow))


def whole_cells(seed: int) -> np.ndarray:
    """Flow by whole cells, so that every point lands on another point, or outside."""
    cells = np.random.default_rng(seed).integers(-2, 3, (FRAMES - 1, ROWS, COLUMNS, 2))
    return np.float32(cells * CELL)


def walked(flow: np.ndarray, base: int, frame: int, start: np.ndarray, hole_fill: str) -> tuple[np.ndarray, bool]:
    """Where the path of one point ends, step by step, and whether it stayed inside."""
    place, stayed = start, True
    while frame != base:
        pair = frame - 1 if frame > base else frame
        row, column = int((place[1] - 3.5) // CELL), int((place[0] - 3.5) // CELL)
        there = place + flow[pair, row, column]
        if 0 <= there[0] <= WIDTH - 1 and 0 <= there[1] <= HEIGHT - 1:
            place = there
        else:
            stayed = False
            if hole_fill != "previous":
                break
        frame += -1 if frame > base else 1
    return place, stayed


@pytest.mark.parametrize("hole_fill", ["tube", "previous", "invisible"])
@pytest.mark.parametrize("base", [0, 3, FRAMES - 1])
def test_a_point_goes_from_frame_to_frame_and_stops_at_its_last_place_inside(base: int, hole_fill: str):
    flow = whole_cells(base)
    ends, seen = paths(jnp.asarray(flow), base, hole_fill)
    for frame, row, column in np.ndindex(FRAMES, ROWS, COLUMNS):
        start = np.float32([column, row]) * CELL + 3.5
        place, stayed = walked(flow, base, frame, start, hole_fill)
        np.testing.assert_allclose(ends[frame, row, column], place, atol=1e-4)
        if hole_fill == "invisible":
            assert float(seen[frame, row, column]) == pytest.approx(float(stayed), abs=1e-5)


def test_a_traced_base_gives_what_a_static_one_gives():
    flow = jax.random.normal(jax.random.key(0), (FRAMES - 1, ROWS, COLUMNS, 2)) * 9
    static = jax.jit(lambda flow: end_points(flow, 3, height=HEIGHT, width=WIDTH))(flow)[0]
    np.testing.assert_allclose(paths(flow, jnp.int32(3))[0], static, atol=1e-4)


def test_the_mixture_at_a_pixel_is_that_of_the_map():
    grid = TokenGrid(2, 32, 48)
    centres = token_centres(jnp.array([0, 4, 5]), grid)
    values = gaussian_mixture_at(pixel_grid(32, 48), centres, 16.0)
    np.testing.assert_allclose(values, gaussian_mixture(centres, grid, 16.0), rtol=1e-5)


def test_what_leaves_the_frame_is_invisible_if_the_filling_says_so():
    away = jnp.full((1, ROWS, COLUMNS, 2), 1e6)
    centres = jnp.array([[20.0, 30.0]])
    gone, tube = jax.jit(
        lambda away: [
            trajectory_volume(centres, away, 0, height=HEIGHT, width=WIDTH, sigma=16.0, hole_fill=fill)
            for fill in ("invisible", "tube")
        ]
    )(away)
    assert (np.asarray(gone[1]) == 0).all()
    np.testing.assert_allclose(tube[1], tube[0], atol=1e-6)


@pytest.mark.parametrize("spacing", [8, 4])
def test_most_tokens_are_those_of_the_warped_map(spacing: int):
    coarse = jax.random.normal(jax.random.key(1), (GRID.frames - 1, 4, 5, 2)) * 6
    flow = jax.image.resize(coarse, (GRID.frames - 1, GRID.height, GRID.width, 2), "bicubic")
    by_points = MaskOptions(ratio=0.8, warp="trajectory", spacing=spacing)
    shared = []
    for seed in range(6):
        one, two = (
            set(np.asarray(sample(jax.random.key(seed), flow, GRID, options).visible).tolist())
            for options in (by_points, MaskOptions(ratio=0.8))
        )
        shared.append(len(one & two) / len(one))
    assert np.mean(shared) > 0.95
    still = sample(jax.random.key(0), jnp.zeros_like(flow), GRID, by_points).visible.reshape(GRID.tubelets, -1)
    assert (np.diff(np.asarray(still), axis=0) == GRID.per_tubelet).all()  # a tube


@hypothesis.given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.4, 20.0, 1e6]))
@hypothesis.settings(max_examples=10, database=None)
def test_masks_are_exact_in_number_for_any_flow(seed: int, scale: float):
    options = MaskOptions(ratio=0.8, warp="trajectory", base_frame="random", exposure=0.5)
    flow = np.float32(np.random.default_rng(seed).normal(size=(GRID.frames - 1, 16, 20, 2)) * scale)
    split = sample(jax.random.key(seed), jnp.asarray(flow), GRID, options)
    count = visible_per_tubelet(0.8, GRID)
    assert np.bincount(np.asarray(split.visible) // GRID.per_tubelet).tolist() == [count] * GRID.tubelets
    assert sorted([*split.visible.tolist(), *split.target.tolist()]) == list(range(GRID.tokens))


def test_pixel_flow_and_flow_at_the_points_are_alike():
    options = MaskOptions(ratio=0.8, warp="trajectory")
    at_points = jax.random.normal(jax.random.key(2), (GRID.frames - 1, 16, 20, 2))
    in_pixels = at_points.repeat(CELL, axis=1).repeat(CELL, axis=2)
    volume_of = jax.jit(lambda flow: motion_volume(jax.random.key(0), GRID, flow, options))
    volumes = [volume_of(flow) for flow in (at_points, in_pixels)]
    assert volumes[0].shape == (8, 16, 20)
    np.testing.assert_allclose(*volumes, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"init": "token"}, "config.mask.init='token': give gaussian with mask.warp=trajectory, or set mask.warp="),
        (
            {"hole_fill": "visible"},
            "config.mask.hole_fill='visible': give tube or invisible or previous with mask.warp",
        ),
        ({"spacing": 0}, "config.mask.spacing=0: give a divisor of model.patch=16"),
        ({"spacing": 5}, "config.mask.spacing=5: give a divisor of model.patch=16"),
        ({"preset": "released_code"}, "config.mask.warp='trajectory': give backward with mask.preset=released_code"),
    ],
)
def test_what_trajectories_cannot_do_is_told(changed: dict, message: str):
    with pytest.raises(ConfigError) as told:
        sample(jax.random.key(0), jnp.zeros((7, 16, 20, 2)), GRID, MaskOptions(warp="trajectory", **changed))
    assert message in str(told.value)
