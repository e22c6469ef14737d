import resource
from types import SimpleNamespace

import jax
import pytest

from mgmae_jax.runtime.device_info import device_memory


def test_on_cpu_it_is_the_peak_of_the_process():
    peak = device_memory()["memory_gib"]
    assert peak == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, rel=0.05)


def test_elsewhere_it_is_the_largest_peak_of_the_devices(monkeypatch: pytest.MonkeyPatch):
    peaks = [3 * 2**30, 5 * 2**30]
    devices = [SimpleNamespace(memory_stats=lambda peak=peak: {"peak_bytes_in_use": peak}) for peak in peaks]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert device_memory() == {"memory_gib": 5.0}
