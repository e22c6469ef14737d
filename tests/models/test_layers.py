import math

import pytest

from mgmae_jax.models.layers import position_table


@pytest.mark.parametrize(("token", "channel"), [(0, 0), (0, 1), (1, 1), (7, 4), (7, 5), (1567, 382), (1567, 383)])
def test_position_table_has_sines_on_even_channels_and_cosines_on_odd(token: int, channel: int):
    table = position_table(1568, 384)
    wave = math.cos if channel % 2 else math.sin
    assert table.dtype == "float32"
    assert table.shape == (1568, 384)
    assert table[token, channel] == pytest.approx(wave(token / 10000 ** (channel // 2 * 2 / 384)), abs=1e-6)
