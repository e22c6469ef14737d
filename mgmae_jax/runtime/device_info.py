"""The run's memory use."""

from __future__ import annotations

import resource
import sys

import jax


def device_memory() -> dict[str, float]:
    """Reads the peak of memory use since the process began, as a metric.

    Returns:
      `memory_gib`: the largest peak of this process's devices in GiB; on CPU the process's peak resident set.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peak = max((device.get("peak_bytes_in_use", 0) for device in stats), default=0)
    return {"memory_gib": peak / 2**30 if peak else peak_resident_gib()}


def peak_resident_gib() -> float:
    """The process's peak resident set so far, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts KiB, on macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
