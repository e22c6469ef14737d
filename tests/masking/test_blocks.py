"""V-JEPA's multi-block masks."""

import jax
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.blocks import block_cover, block_size
from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions
from mgmae_jax.masking.strategies import draw_mask, find_strategy
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.rng import named_key

GRID = TokenGrid(8, 56, 56, tubelet=2, patch=4)
"""14 x 14 tokens of 4 tubelets, as of 224 pixels and patches of 16."""
SHORT = MaskOptions(strategy="multi_block", ratio=0.9)
LONG = MaskOptions(strategy="multi_block", ratio=0.9, blocks=2, block_scale=0.7)
KEYS = jax.random.split(jax.random.key(0), 300)


@pytest.mark.parametrize(("options", "sides"), [(SHORT, (4, 7)), (LONG, (10, 14))], ids=["short", "long"])
def test_blocks_have_the_scale_and_the_aspect(options, sides):
    rows, columns = map(np.asarray, jax.vmap(lambda key: block_size(key, GRID, options))(KEYS))
    # Sides are the roots of 29 or 137 tokens times 1.5 or its inverse, rounded and at most 14.
    assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == sides
    assert abs((rows * columns).mean() / 196 - options.block_scale) < 0.02
    assert abs(np.log(rows / columns).mean()) < 0.06


def test_one_block_is_a_rectangle_of_its_size_anywhere_in_the_frame():
    options = MaskOptions(strategy="multi_block", blocks=1, block_scale=0.15)
    covers = np.asarray(jax.vmap(lambda key: block_cover(key, GRID, options))(KEYS))
    assert set(np.unique(covers)) == {0, 1}
    for cover in covers[:50]:
        rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
        box = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all()
        assert box.sum() == cover.sum()
    for edge in (covers[:, 0], covers[:, -1], covers[:, :, 0], covers[:, :, -1]):
        assert 0.02 < edge.any(1).mean() < 0.3  # each of about ten places


@pytest.mark.parametrize("options", [SHORT, LONG], ids=["short", "long"])
def test_what_is_seen_lies_outside_the_blocks_in_every_frame(options):
    splits = jax.jit(jax.vmap(lambda key: draw_mask(MaskInput(key, GRID, options))))(KEYS)
    places = np.asarray(splits.visible).reshape(300, 4, 19) - 196 * np.arange(4)[:, None]
    assert (places == places[:, :1]).all()
    keys = jax.vmap(lambda key: jax.random.split(named_key(key, "select", DRAWS))[0])(KEYS)
    covers = np.asarray(jax.vmap(lambda key: block_cover(key, GRID, options))(keys)).reshape(300, 196)
    free = (covers == 0).sum(1)
    covered = np.take_along_axis(covers, places[:, 0], 1)
    assert (free >= 19).sum() > 150
    assert (covered[free >= 19] == 0).all()
    for cover, chosen in zip(covers, covered, strict=True):
        assert sorted(chosen) == sorted(cover)[:19]  # with fewer free places, those of the fewest blocks


@pytest.mark.parametrize(
    ("field", "value"),
    [("blocks", 0), ("block_scale", 0.0), ("block_scale", 1.0), ("block_aspect", 0.5), ("block_aspect", float("inf"))],
)
def test_what_cannot_work_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"config\.mask\.{field}="):
        find_strategy(GRID, MaskOptions(**{"strategy": "multi_block", "ratio": 0.9, field: value}))
