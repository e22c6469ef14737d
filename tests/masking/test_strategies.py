"""Properties of the masks, over pairs of options, grids, ratios, seeds and flows."""

import dataclasses
import functools
import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from mgmae_jax.masking import base_map
from mgmae_jax.masking.base_map import token_map
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions, base_frame
from mgmae_jax.masking.motion import motion_volume, select_visible, warp_volume
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.masking.strategies import STRATEGIES, draw_mask
from mgmae_jax.ops.tokens import TokenGrid
from tests.masking.example_input import example_input, example_options, random_flow

GRIDS = [
    TokenGrid(3, 16, 16, tubelet=1, patch=4),
    TokenGrid(4, 24, 40, tubelet=2, patch=8),
    TokenGrid(8, 48, 32, tubelet=4, patch=16),
]
CHOICES = {
    "base_frame": ["middle", "first", "random"],
    "init": ["gaussian", "token", "pixel"],
    "preset": ["paper", "released_code"],
    "warp": ["backward", "forward"],
    "hole_fill": ["tube", "random", "invisible", "visible", "previous"],
    "select": ["tubelet", "clip"],
    "exposure": [0.0, 0.5],
    "ratio": [0.5, 0.8],
    "grid": GRIDS,
}
EVEN_GRIDS = [
    TokenGrid(3, 16, 16, tubelet=1, patch=4),
    TokenGrid(4, 32, 48, tubelet=2, patch=8),
    TokenGrid(8, 64, 32, tubelet=4, patch=16),
]
"""For every strategy: running cells need rows and columns in pairs."""
HUGE = 1e6


def pairwise_cases():
    """Cases in which every two values of different options meet, as far as the options allow."""

    def allowed(case):
        return not (case["preset"] == "released_code" and case["warp"] == "forward")

    def pairs(case):
        return set(itertools.combinations([(field, str(value)) for field, value in case.items()], 2))

    cases = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
    # A fixed shuffle: neighbours of a product are alike.
    cases = [cases[i] for i in np.random.default_rng(0).permutation(len(cases)) if allowed(cases[i])][:1000]
    left = set().union(*map(pairs, cases))
    chosen = []
    while left:
        chosen.append(max(cases, key=lambda case: len(pairs(case) & left)))
        left -= pairs(chosen[-1])
    return chosen


CASES = pairwise_cases()


@functools.partial(jax.jit, static_argnames=("grid", "options"))
def sample(key, flow, grid, options):
    return draw_mask(MaskInput(key, grid, options, flow=flow))


@functools.partial(jax.jit, static_argnames=("grid", "options"))
def sample_batch(keys, flows, grid, options):
    return jax.vmap(lambda key, flow: draw_mask(MaskInput(key, grid, options, flow=flow)))(keys, flows)


@functools.partial(jax.jit, static_argnames=("grid", "options"))
def split_of(arrays, grid, options):
    return draw_mask(MaskInput(grid=grid, options=options, **arrays))


@functools.partial(jax.jit, static_argnames=("grid", "options"))
def splits_of(arrays, grid, options):
    return jax.vmap(lambda arrays: draw_mask(MaskInput(grid=grid, options=options, **arrays)))(arrays)


def arrays_of(ask):
    """The fields of an input that are traced."""
    return {name: getattr(ask, name) for name in ("key", "clip", "flow", "tokens", "params")}


def check(split, grid, options):
    visible, target = np.asarray(split.visible), np.asarray(split.target)
    count = visible_per_tubelet(options.ratio, grid)
    assert visible.dtype == target.dtype == np.int32
    assert (np.diff(visible) > 0).all()
    assert (np.diff(target) > 0).all()
    assert visible.shape == (count * grid.tubelets,)
    everything = sorted([*visible, *target])
    if STRATEGIES[options.strategy].target is None:
        assert everything == list(range(grid.tokens))
    else:
        assert len(target) > 0
        assert set(everything) <= set(range(grid.tokens))
        assert len(set(everything)) == len(everything)
    if options.strategy == "tube" or (options.strategy == "motion" and options.select == "tubelet"):
        assert np.bincount(visible // grid.per_tubelet, minlength=grid.tubelets).tolist() == [count] * grid.tubelets


def tubes(split, grid):
    """Visible places of each tubelet, [t, count]."""
    return np.asarray(split.visible).reshape(grid.tubelets, -1) - grid.per_tubelet * np.arange(grid.tubelets)[:, None]


def test_the_cases_cover_every_value():
    for field, values in CHOICES.items():
        assert {str(case[field]) for case in CASES} == {str(value) for value in values}


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "-".join(str(v) for v in case.values() if not isinstance(v, TokenGrid))
)
def test_motion_masks_are_exact_in_number_for_any_flow(case):
    grid = case["grid"]
    options = MaskOptions(**{field: value for field, value in case.items() if field != "grid"})

    @hypothesis.given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 0.4, 6.0, 100.0, HUGE]))
    @hypothesis.settings(max_examples=8, database=None)
    def holds(seed, scale):
        key, flow = jax.random.key(seed), random_flow(grid, seed, scale)
        split = sample(key, flow, grid, options)
        check(split, grid, options)
        np.testing.assert_array_equal(split.visible, sample(key, flow, grid, options).visible)

    holds()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("grid", EVEN_GRIDS, ids=str)
def test_every_strategy_is_exact_in_number_and_gives_one_key_one_mask(strategy, grid):
    options = example_options(strategy, 0.75)

    @hypothesis.given(seed=st.integers(0, 2**32 - 5), scale=st.sampled_from([0.0, 0.4, 100.0]))
    @hypothesis.settings(max_examples=4, database=None)
    def holds(seed, scale):
        arrays = [arrays_of(example_input(seed + i, grid, options, scale)) for i in range(4)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
        splits, again = splits_of(stacked, grid, options), splits_of(stacked, grid, options)
        for i in range(4):
            check(jax.tree.map(lambda leaf, i=i: leaf[i], splits), grid, options)
        jax.tree.map(np.testing.assert_array_equal, splits, again)

    holds()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_the_same_mask_one_by_one_in_a_batch_and_without_jit(strategy):
    grid, options = EVEN_GRIDS[1], example_options(strategy, 0.75)
    asks = [example_input(seed, grid, options) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(arrays_of, asks))
    batch = splits_of(stacked, grid, options)
    for i, ask in enumerate(asks):
        in_batch = jax.tree.map(lambda leaf, i=i: leaf[i], batch)
        jax.tree.map(np.testing.assert_array_equal, in_batch, split_of(arrays_of(ask), grid, options))
    jax.tree.map(np.testing.assert_array_equal, in_batch, draw_mask(ask))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_where_there_is_nothing_to_see_the_key_decides(strategy):
    grid, options = EVEN_GRIDS[1], example_options(strategy, 0.75)
    arrays = arrays_of(example_input(0, grid, options))
    arrays |= {name: jnp.zeros_like(arrays[name]) for name in ("clip", "flow", "tokens") if arrays[name] is not None}
    splits = [split_of(arrays | {"key": jax.random.key(seed)}, grid, options) for seed in range(5)]
    assert len({tuple(split.visible.tolist()) for split in splits}) > 1


def test_tube_shows_the_same_places_in_every_tubelet():
    grid = GRIDS[1]
    places = tubes(draw_mask(MaskInput(jax.random.key(0), grid, MaskOptions(strategy="tube", ratio=0.75))), grid)
    assert (places == places[0]).all()


def test_frame_shows_whole_tubelets():
    grid = TokenGrid(8, 16, 24, tubelet=1, patch=8)
    split = draw_mask(MaskInput(jax.random.key(0), grid, MaskOptions(strategy="frame", ratio=0.7)))
    # One token of six per tubelet, so eight: one whole tubelet and two tokens of another.
    assert sorted(np.bincount(np.asarray(split.visible) // 6, minlength=8)) == [0] * 6 + [2, 6]


def test_random_shows_any_token_as_often():
    grid = GRIDS[1]
    options = MaskOptions(strategy="random", ratio=0.8)
    splits = jax.vmap(lambda key: draw_mask(MaskInput(key, grid, options)))(jax.random.split(jax.random.key(0), 500))
    counts = np.bincount(np.asarray(splits.visible).ravel(), minlength=grid.tokens)
    # 500 draws of a fifth: 100 each, standard deviation 9.
    assert counts.min() > 60
    assert counts.max() < 140


@pytest.mark.parametrize(
    "options",
    [
        MaskOptions(ratio=0.8, base_frame="random", hole_fill="random", init="pixel", exposure=0.5),
        MaskOptions(ratio=0.8, base_frame="random", warp="forward", init="token", select="clip"),
    ],
    ids=lambda options: f"{options.strategy}-{options.init}-{options.warp}-{options.preset}",
)
def test_a_batch_by_vmap_equals_one_by_one(options):
    grid = GRIDS[1]
    keys = jax.random.split(jax.random.key(0), 4)
    flows = jnp.stack([random_flow(grid, seed, scale) for seed, scale in enumerate([0.4, 4.0, 20.0, HUGE])])
    batch = sample_batch(keys, flows, grid, options)
    for i in range(4):
        jitted = sample(keys[i], flows[i], grid, options)
        np.testing.assert_array_equal(batch.visible[i], jitted.visible)
        np.testing.assert_array_equal(batch.target[i], jitted.target)


@pytest.mark.parametrize("preset", ["paper", "released_code"])
def test_the_base_map_of_pixels_shows_their_tenth(preset, monkeypatch):
    shown, real = [], base_map.pixel_map
    monkeypatch.setattr(base_map, "pixel_map", lambda key, grid, count: shown.append(count) or real(key, grid, count))
    grid = TokenGrid(2, 224, 224)
    sample(jax.random.key(0), random_flow(grid, 0, 0.0), grid, MaskOptions(ratio=0.9, init="pixel", preset=preset))
    assert shown == [5017]


@pytest.mark.parametrize("init", ["gaussian", "token", "pixel"])
@pytest.mark.parametrize(
    ("warp", "preset"), [("backward", "paper"), ("forward", "paper"), ("backward", "released_code")]
)
def test_without_motion_the_mask_is_a_tube(init, warp, preset):
    grid = GRIDS[1]
    options = MaskOptions(ratio=0.8, init=init, warp=warp, preset=preset)
    for seed in range(3):
        places = tubes(sample(jax.random.key(seed), random_flow(grid, 0, 0.0), grid, options), grid)
        assert (places == places[0]).all()


@pytest.mark.parametrize(
    ("hole_fill", "preset"), [("visible", "paper"), ("visible", "released_code"), ("random", "released_code")]
)
def test_without_motion_the_filling_changes_nothing(hole_fill, preset):
    # To the released code's rule a zero of the base map would be a hole.
    grid, flow = GRIDS[1], random_flow(GRIDS[1], 0, 0.0)
    options = MaskOptions(ratio=0.8, init="token", preset=preset)
    expected = sample(jax.random.key(0), flow, grid, options)
    filled = sample(jax.random.key(0), flow, grid, dataclasses.replace(options, hole_fill=hole_fill))
    np.testing.assert_array_equal(filled.visible, expected.visible)


@functools.partial(jax.jit, static_argnames=("base", "grid", "options"))
def visible_of(start, flow, base, grid, options):
    key = jax.random.key(0)
    return select_visible(key, grid, warp_volume(start, grid, flow, base, key, options), options)


MOVING = [TokenGrid(3, 40, 56, tubelet=1, patch=8), TokenGrid(6, 40, 56, tubelet=2, patch=8)]


@pytest.mark.parametrize("warp", ["backward", "forward"])
@pytest.mark.parametrize("grid", MOVING, ids=lambda grid: f"tubelet{grid.tubelet}")
@pytest.mark.parametrize(("right", "down"), [(2, 0), (-1, 1), (1, -1), (0, 1)])
def test_masks_move_with_the_scene(grid, warp, right, down):
    """A scene that moves by whole patches from tubelet to tubelet takes its visible tokens along."""
    options = MaskOptions(ratio=1 - 4 / 35, warp=warp, hole_fill="invisible")
    base = base_frame(jax.random.key(0), grid.frames, options)
    motion = np.float32([right, down]) * grid.patch
    pair = np.arange(grid.frames - 1)
    crosses = (pair + 1) % grid.tubelet == 0
    # Backward warping reads the flow towards the base frame, forward warping the flow from it.
    later_is_source = (pair >= base) == (warp == "backward")
    flow = np.where(crosses[:, None], np.where(later_is_source[:, None], -motion, motion), np.float32(0))
    flow = jnp.asarray(np.broadcast_to(flow[:, None, None], (grid.frames - 1, grid.height, grid.width, 2)))
    # Four tokens near the middle, at (row, column).
    rows, columns = np.array([1, 2, 3, 2]), np.array([2, 4, 3, 3])
    start = token_map(jnp.asarray(rows * grid.columns + columns), grid)
    visible = np.sort(np.asarray(visible_of(start, flow, base, grid, options)))
    expected = [
        tubelet * grid.per_tubelet + (rows + down * away) * grid.columns + columns + right * away
        for tubelet in range(grid.tubelets)
        for away in [tubelet - base // grid.tubelet]
    ]
    np.testing.assert_array_equal(visible, np.sort(np.concatenate(expected)))


@pytest.mark.parametrize(("choice", "frames"), [("middle", [4]), ("first", [0]), ("random", list(range(8)))])
def test_every_base_frame_is_drawn_and_keeps_its_map(choice, frames):
    grid = TokenGrid(8, 16, 16, tubelet=2, patch=8)
    options = MaskOptions(ratio=0.5, base_frame=choice, init="token", hole_fill="invisible")
    keys = jax.random.split(jax.random.key(0), 100)
    bases = np.array([int(base_frame(key, grid.frames, options)) for key in keys])
    assert sorted(set(bases.tolist())) == frames
    # Everything leaves the picture at once, so that the base frame alone has visible pixels.
    flow = jnp.full((7, 16, 16, 2), HUGE, jnp.float32)
    volume_of = jax.jit(lambda key: motion_volume(key, grid, flow, options))
    for key, base in zip(keys[:10], bases[:10], strict=True):
        volume = np.asarray(volume_of(key))
        assert volume[base].sum() == 2 * 64
        assert volume.sum() == 2 * 64


def test_a_random_base_is_drawn_for_each_sample_of_a_batch():
    options = MaskOptions(base_frame="random")
    bases = jax.vmap(lambda key: base_frame(key, 16, options))(jax.random.split(jax.random.key(0), 64))
    assert len(np.unique(bases)) > 8


def test_the_released_code_draws_a_centre_more_than_the_tokens_it_keeps():
    grid, key = GRIDS[1], jax.random.key(0)
    for preset, count in (("paper", 1), ("released_code", 2)):
        options = MaskOptions(ratio=0.9, init="token", preset=preset)
        volume = jax.jit(motion_volume, static_argnums=(1, 3))(key, grid, random_flow(grid, 0, 0.0), options)
        assert (volume[0] == 1).sum() == count * grid.patch**2
        assert select_visible(key, grid, volume, options).shape == (grid.tubelets,)


def test_exposure_shows_tokens_that_were_hidden():
    grid = GRIDS[1]
    flow = random_flow(grid, 0, 0.0)
    plain, exposed = MaskOptions(ratio=0.8), MaskOptions(ratio=0.8, exposure=2.0)
    changed = [
        (
            sample(jax.random.key(seed), flow, grid, plain).visible
            != sample(jax.random.key(seed), flow, grid, exposed).visible
        ).any()
        for seed in range(10)
    ]
    assert sum(map(bool, changed)) >= 5
