"""Running cells are those of the official programs, by what these gave and by a definition of their own."""

from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions
from mgmae_jax.masking.strategies import STRATEGIES, draw_mask, find_strategy, hidden_targets
from mgmae_jax.ops.running_cell import hidden_places, shown_tokens
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.rng import named_key

GRID = TokenGrid(16, 64, 96, tubelet=2, patch=16)
KEY = jax.random.key(3)


def official_cases(program: str) -> list[tuple[tuple[int, int, int], float, int, np.ndarray]]:
    """(tubelets, rows, columns), ratio, phase (-1: MAR's mask for tests), hidden [t, h, w]."""
    with np.load(Path(__file__).parents[1] / "golden/running_cell.npz") as arrays:
        grids, ratios, phases, bits = (arrays[f"{program}:{name}"] for name in ("grid", "ratio", "phase", "hidden"))
    ends = np.cumsum(grids.prod(axis=1))
    hidden = np.split(np.unpackbits(bits, count=ends[-1]).astype(bool), ends[:-1])
    return [
        (tuple(grid), float(ratio), int(phase), mask.reshape(grid))
        for grid, ratio, phase, mask in zip(grids.tolist(), ratios, phases, hidden, strict=True)
    ]


def defined(shape: tuple[int, int, int], ratio: float, turn_of: list[int]) -> np.ndarray:
    """Hidden [t, h, w]: a row of four, ones first, is turned to the left, cut in two rows, and tiled."""
    row = [True] * int(4 * ratio) + [False] * (4 - int(4 * ratio))
    turned = [np.reshape(row[turn % 4 :] + row[: turn % 4], (2, 2)) for turn in turn_of]
    return np.stack([np.tile(cell, (shape[1] // 2, shape[2] // 2)) for cell in turned])


def hidden_by(shape: tuple[int, int, int], ratio: float, turns: np.ndarray) -> np.ndarray:
    """The same by the package."""
    tubelets, rows, columns = shape
    grid = TokenGrid(tubelets, 4 * rows, 4 * columns, tubelet=1, patch=4)
    shown = shown_tokens(grid, hidden_places("mask.ratio", ratio, grid), jnp.asarray(turns, jnp.int32))
    assert (np.diff(shown) > 0).all()
    hidden = np.ones(grid.tokens, bool)
    hidden[np.asarray(shown)] = False
    return hidden.reshape(shape)


@pytest.mark.parametrize("program", ["v2", "mar"])
def test_the_cells_are_the_official_ones(program: str):
    cases = official_cases(program)
    assert len(cases) == 20
    for shape, ratio, phase, expected in cases:
        time = np.arange(shape[0])
        # VideoMAE V2 turns to the left, MAR to the right; MAR's tests begin with the cell as it is.
        turns = phase + 1 + time if program == "v2" else -(max(phase, 0) + time)
        np.testing.assert_array_equal(defined(shape, ratio, turns.tolist()), expected)
        np.testing.assert_array_equal(hidden_by(shape, ratio, turns), expected)


@hypothesis.given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 4).map(lambda n: 2 * n), st.integers(1, 4).map(lambda n: 2 * n)),
    ratio=st.sampled_from([0.25, 0.5, 0.75]),
    seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=30, database=None)
def test_any_turns_hide_the_share_of_every_tubelet(shape, ratio, seed):
    turns = np.random.default_rng(seed).integers(-9, 9, shape[0])
    hidden = hidden_by(shape, ratio, turns)
    np.testing.assert_array_equal(hidden, defined(shape, ratio, turns.tolist()))
    assert (hidden.mean(axis=(1, 2)) == ratio).all()


def phase_of(tokens: np.ndarray, ratio: float) -> int:
    """Of VideoMAE V2's masks."""
    hidden = np.ones(GRID.tokens, bool)
    hidden[np.asarray(tokens)] = False
    shape = (GRID.tubelets, GRID.rows, GRID.columns)
    masks = [defined(shape, ratio, (phase + 1 + np.arange(8)).tolist()) for phase in range(4)]
    (found,) = [phase for phase, mask in enumerate(masks) if (mask == hidden.reshape(shape)).all()]
    return found


def test_the_key_draws_the_phase():
    options = MaskOptions(strategy="running_cell", ratio=0.75, decoder="running_cell", decoder_ratio=0.5)
    splits = jax.vmap(lambda key: draw_mask(MaskInput(key, GRID, options)))(jax.random.split(KEY, 64))
    of_encoder = np.array([phase_of(tokens, 0.75) for tokens in splits.visible])
    of_decoder = np.array([phase_of(tokens, 0.5) for tokens in splits.target])
    assert np.bincount(of_encoder).min() >= 6
    assert len(set(zip(of_encoder.tolist(), of_decoder.tolist(), strict=True))) == 16  # each is drawn by itself


FLOW = jax.random.normal(KEY, (GRID.frames - 1, GRID.height, GRID.width, 2)) * 3


@pytest.mark.parametrize("strategy", ["motion", "tube", "random", "frame", "running_cell"])
def test_the_decoders_mask_leaves_the_encoders_as_it_is(strategy: str):
    plain = MaskOptions(strategy=strategy, ratio=0.75)
    dual = MaskOptions(strategy=strategy, ratio=0.75, decoder="running_cell", decoder_ratio=0.5)
    alone, split = (
        jax.jit(lambda key, flow, options=options: draw_mask(MaskInput(key, GRID, options, flow=flow)))(KEY, FLOW)
        for options in (plain, dual)
    )
    np.testing.assert_array_equal(split.visible, alone.visible)
    assert split.target.shape == (GRID.tokens // 2,)
    drawn = jax.random.randint(named_key(KEY, "decoder", DRAWS), (), 0, 4)
    assert phase_of(split.target, 0.5) == drawn
    measured = np.asarray(hidden_targets(split, GRID, dual))
    np.testing.assert_array_equal(measured, np.isin(split.target, alone.target))
    assert measured.any()
    assert hidden_targets(alone, GRID, plain) is None


def test_what_tubes_hide_is_decoded_as_often_everywhere():
    # Over four tubelets every place is decoded twice, so that the number of tokens in the loss is the same.
    options = MaskOptions(strategy="tube", ratio=0.9, decoder="running_cell")
    splits = jax.vmap(lambda key: draw_mask(MaskInput(key, GRID, options)))(jax.random.split(KEY, 8))
    measured = jax.vmap(lambda split: hidden_targets(split, GRID, options))(splits)
    hidden = GRID.tokens - splits.visible.shape[1]
    assert measured.sum(axis=1).tolist() == [hidden // 2] * 8


@pytest.mark.parametrize(
    ("options", "grid", "message"),
    [
        ({"strategy": "running_cell", "ratio": 0.9}, GRID, r"config\.mask\.ratio=0\.9: give 0\.25, 0\.5 or 0\.75"),
        (
            {"strategy": "tube", "decoder": "running_cell", "decoder_ratio": 0.4},
            GRID,
            r"mask\.decoder_ratio=0\.4: give",
        ),
        (
            {"strategy": "tube", "ratio": 0.5, "decoder": "running_cell"},
            GRID,
            r"mask\.decoder_ratio=0\.5: give less than mask\.ratio=0\.5",
        ),
        (
            {"strategy": "running_cell", "ratio": 0.5},
            TokenGrid(4, 48, 64, tubelet=2, patch=16),
            r"config\.clip\.size=48: give a multiple of 32",
        ),
    ],
)
def test_what_cells_cannot_do_is_named(options, grid, message):
    with pytest.raises(ConfigError, match=message):
        find_strategy(grid, MaskOptions(**options))


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if strategy.target or strategy.loss])
def test_a_strategy_with_its_own_targets_or_loss_has_no_mask_of_the_decoders(name: str):
    with pytest.raises(
        ConfigError, match=rf"config\.mask\.decoder='running_cell': give all with mask\.strategy={name}"
    ):
        find_strategy(GRID, MaskOptions(strategy=name, ratio=0.75, decoder="running_cell"))


def test_an_unknown_decoder_mask_is_named():
    with pytest.raises((ConfigError, TypeError), match=r"decoder"):
        MaskOptions(decoder="half")
