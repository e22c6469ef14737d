"""EVEREST: only the tokens that change are seen and predicted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.everest import importance, kept_tokens
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.strategies import draw_mask, find_strategy
from mgmae_jax.ops.tokens import TokenGrid

GRID = TokenGrid(8, 32, 32, tubelet=2, patch=8)
OPTIONS = MaskOptions(strategy="everest", ratio=0.875, keep=0.25)


def test_importance_is_the_distance_to_the_tubelet_before():
    tokens = np.zeros((4, 16, 2), np.float32)
    tokens[1, 3] = (3, 4)  # differs from the tubelet before, and from the one after
    expected = np.zeros((4, 16))
    expected[[0, 1, 2], 3] = 5  # the first tubelet has the importance of the second
    found = importance(jnp.asarray(tokens.reshape(64, 2)), GRID)
    np.testing.assert_allclose(found, expected.ravel())


def test_only_the_most_important_tokens_are_visible_or_predicted():
    tokens = jax.random.normal(jax.random.key(1), (64, 6))
    draw = jax.jit(lambda key: draw_mask(MaskInput(key, GRID, OPTIONS, tokens=tokens)))
    best = set(np.argsort(np.asarray(importance(tokens, GRID)))[-16:].tolist())
    # A token of the first tubelet is as important as that of the second: such a pair may be cut by the key.
    assert sorted(np.asarray(importance(tokens, GRID)))[-17] < sorted(np.asarray(importance(tokens, GRID)))[-16]
    seen = np.zeros(64)
    for seed in range(40):
        split = draw(jax.random.key(seed))
        assert split.visible.shape == split.target.shape == (8,)
        assert set(split.visible.tolist()) | set(split.target.tolist()) == best
        seen[np.asarray(split.visible)] += 1
    # Each of the best is visible in half of the draws: 20, standard deviation 3.2.
    assert seen[sorted(best)].min() >= 7
    assert seen[sorted(best)].max() <= 33


def test_the_papers_numbers():
    grid = TokenGrid(16, 224, 224)
    split = jax.eval_shape(
        lambda key, tokens: draw_mask(MaskInput(key, grid, MaskOptions(strategy="everest"), tokens=tokens)),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1568, 4), jnp.float32),
    )
    # 0.3 of 1568 tokens, of which the visible 19 of each of 8 tubelets.
    assert kept_tokens(grid, MaskOptions()) == 470
    assert (split.visible.shape, split.target.shape) == ((152,), (470 - 152,))


@pytest.mark.parametrize("keep", [0.125, 0.0, -1.0, float("nan"), float("inf")])
def test_tokens_must_be_left_to_predict(keep):
    with pytest.raises(ConfigError, match=r"config\.mask\.keep=.*more than 1 - mask\.ratio = 0\.125"):
        find_strategy(GRID, MaskOptions(strategy="everest", ratio=0.875, keep=keep))


def test_all_tokens_may_be_kept_but_no_more():
    find_strategy(GRID, MaskOptions(strategy="everest", ratio=0.875, keep=1.0))
    with pytest.raises(ConfigError, match=r"config\.mask\.keep=1\.5"):
        find_strategy(GRID, MaskOptions(strategy="everest", ratio=0.875, keep=1.5))


def test_one_tubelet_has_nothing_to_differ_from():
    with pytest.raises(ConfigError, match=r"config\.clip\.frames=2"):
        find_strategy(TokenGrid(2, 32, 32, tubelet=2, patch=8), OPTIONS)


def test_without_tokens_it_says_so():
    with pytest.raises(ValueError, match="needs tokens"):
        draw_mask(MaskInput(jax.random.key(0), GRID, OPTIONS))
