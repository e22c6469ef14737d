from types import SimpleNamespace

import jax
import numpy as np
import pytest

from mgmae_jax.plan.chips import CHIPS
from mgmae_jax.plan.duration import estimate


def test_days_chip_hours_and_data_follow_from_the_operations_of_a_step():
    batch = {"clip": jax.ShapeDtypeStruct((128, 16, 224, 224, 3), np.uint8)}
    work = SimpleNamespace(flops=int(64 * 197e12 * 0.25 * 2), steps=86_400, batch_size=32, clips=128, batch=batch)
    found = estimate(work, CHIPS["v5e"], 64, 0.25, 5.0)
    assert found.step_seconds == pytest.approx(2.0)
    assert found.days == pytest.approx(2.0)
    assert found.chip_hours == pytest.approx(2 * 24 * 64)
    assert (found.clips, found.videos) == pytest.approx((64.0, 16.0))
    assert found.megabytes == pytest.approx(64 * 16 * 224 * 224 * 3 / 1e6)
    assert found.host_cores == 4  # 16 / 5, rounded up


def test_twice_the_chips_take_half_the_time_and_twice_the_cores():
    batch = {"clip": jax.ShapeDtypeStruct((128, 2, 8, 8, 3), np.uint8)}
    work = SimpleNamespace(flops=10**15, steps=1000, batch_size=128, clips=128, batch=batch)
    one, two = (estimate(work, CHIPS["h200"], chips, 0.4, 1.0) for chips in (8, 16))
    assert two.days == pytest.approx(one.days / 2)
    assert two.chip_hours == pytest.approx(one.chip_hours)
    assert two.host_cores == pytest.approx(2 * one.host_cores, abs=2)
