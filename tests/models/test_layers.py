import math

import jax
import numpy as np
import pytest

from mgmae_jax.models.layers import drop_path_scales, position_table


@pytest.mark.parametrize(("token", "channel"), [(0, 0), (0, 1), (1, 1), (7, 4), (7, 5), (1567, 382), (1567, 383)])
def test_position_table_has_sines_on_even_channels_and_cosines_on_odd(token: int, channel: int):
    table = position_table(1568, 384)
    wave = math.cos if channel % 2 else math.sin
    assert table.dtype == "float32"
    assert table.shape == (1568, 384)
    assert table[token, channel] == pytest.approx(wave(token / 10000 ** (channel // 2 * 2 / 384)), abs=1e-6)


def test_branches_are_dropped_more_often_in_later_blocks_and_keep_their_mean():
    scales = np.asarray(drop_path_scales(jax.random.split(jax.random.key(0), 4000), 0.4, 5))
    assert scales.shape == (5, 2, 4000)
    for rate, block in zip(np.linspace(0, 0.4, 5), scales, strict=True):
        np.testing.assert_allclose((block == 0).mean(axis=1), rate, atol=0.03)
        np.testing.assert_allclose(block[block > 0], 1 / (1 - rate), rtol=1e-6)
    # The two branches of a block, and the blocks, are dropped independently.
    dropped = (scales[1:] == 0).reshape(8, -1)
    assert np.abs(np.corrcoef(dropped) - np.eye(8)).max() < 0.07
