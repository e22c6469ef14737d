import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.select import (
    expose_one_frame,
    frame_scores,
    highest,
    select_by_tubelet,
    split_tokens,
    token_scores,
    visible_per_tubelet,
)
from mgmae_jax.ops.tokens import TokenGrid

GRID = TokenGrid(4, 24, 40, tubelet=2, patch=8)
KEYS = jax.random.split(jax.random.key(0), 300)


@pytest.mark.parametrize(
    ("ratio", "count"), [(0.9, 19), (0.75, 49), (0.8, 39), (0.95, 9), (0.5, 98), (1 / 196, 195), (195 / 196, 1)]
)
def test_visible_tokens_of_224_pixels(ratio, count):
    assert visible_per_tubelet(ratio, TokenGrid(16, 224, 224)) == count


def test_rounding_errors_do_not_lose_a_token():
    assert visible_per_tubelet(0.9, TokenGrid(2, 32, 80)) == 1


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5, 0.999, 1e-9, float("nan")])
def test_a_ratio_that_leaves_none_or_all_is_named(ratio):
    with pytest.raises(ConfigError, match=r"config\.mask\.ratio="):
        visible_per_tubelet(ratio, GRID)


@pytest.mark.parametrize("side", [32, 48, 112, 224, 448])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_the_ratios_that_are_suggested_work(side, ratio):
    grid = TokenGrid(2, side, side)
    with pytest.raises(ConfigError, match="so that some of") as caught:
        visible_per_tubelet(ratio, grid)
    least, most = map(float, re.findall(r"from (\S+) to (\S+),", caught.value.want)[0])
    assert visible_per_tubelet(least, grid) >= grid.per_tubelet - 2  # 0.005103 is more than 1 / 196
    assert visible_per_tubelet(most, grid) == 1


def test_of_one_token_in_a_tubelet_no_ratio_works():
    want = r"config\.clip\.size=16: give more than model\.patch=16, so that some tokens are hidden"
    with pytest.raises(ConfigError, match=want):
        visible_per_tubelet(0.5, TokenGrid(2, 16, 16))


def test_scores_are_means_over_the_tokens_pixels_and_frames():
    volume = np.random.default_rng(0).random((4, 24, 40)).astype(np.float32)
    by_frame = frame_scores(jnp.asarray(volume), GRID)
    assert by_frame.shape == (4, 15)
    np.testing.assert_allclose(by_frame[3, 7], volume[3, 8:16, 16:24].mean(), rtol=1e-5)
    by_tubelet = token_scores(by_frame, GRID)
    assert by_tubelet.shape == (2, 15)
    np.testing.assert_allclose(by_tubelet[1, 4], volume[2:4, 0:8, 32:40].mean(), rtol=1e-5)


def test_exposure_changes_one_random_frame_by_its_own_scale():
    scores = jax.random.uniform(jax.random.key(1), (4, 4000)) * jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(4, 1)
    changed = np.asarray(jax.vmap(lambda key: expose_one_frame(key, scores, 0.5) - scores)(KEYS[:40]))
    frames = [np.flatnonzero(abs(noise).max(axis=1)) for noise in changed]
    assert {len(frame) for frame in frames} == {1}
    assert {int(frame[0]) for frame in frames} == {0, 1, 2, 3}
    for noise, (frame,) in zip(changed, frames, strict=True):
        assert noise[frame].std() == pytest.approx(0.5 * float(scores[frame].std()), rel=0.1)


def test_highest_takes_the_highest():
    scores = jax.random.permutation(jax.random.key(2), jnp.arange(30, dtype=jnp.float32))
    chosen = highest(jax.random.key(3), scores, 7)
    assert chosen.dtype == jnp.int32
    assert sorted(scores[chosen].tolist()) == list(range(23, 30))


def test_ties_are_broken_by_the_key_each_way_as_often():
    # 8 stands out, 0 is never taken; the other two come from the four 5s.
    scores = jnp.array([5.0, 0.0, 5.0, 8.0, 5.0, 0.0, 5.0])
    chosen = np.sort(jax.vmap(lambda key: highest(key, scores, 3))(KEYS), axis=1)
    kinds, counts = np.unique(chosen, axis=0, return_counts=True)
    expected = [sorted((3, *pair)) for pair in itertools.combinations([0, 2, 4, 6], 2)]
    assert sorted(kinds.tolist()) == sorted(expected)
    # 300 draws of 6 kinds: 50 each, standard deviation 6.5.
    assert counts.min() > 20


def test_what_stands_still_gets_a_tube_even_among_equals():
    scores = jnp.zeros((5, 15))
    chosen = np.asarray(select_by_tubelet(jax.random.key(4), scores, 3)).reshape(5, 3) - 15 * np.arange(5)[:, None]
    assert (chosen == chosen[0]).all()


def test_split_sorts_and_targets_the_rest():
    split = split_tokens(jnp.array([29, 3, 17], jnp.int32), GRID)
    assert split.visible.tolist() == [3, 17, 29]
    assert split.target.tolist() == [token for token in range(30) if token not in (3, 17, 29)]
    assert split.visible.dtype == split.target.dtype == jnp.int32
