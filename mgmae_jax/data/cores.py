"""How many processor cores this process may use; no jax and no video reader here."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The cores that this process may run on, which a scheduler or container may hold below those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
