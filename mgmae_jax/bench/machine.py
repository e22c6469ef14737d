"""The machine and the versions that a measurement was made with."""

import platform
from pathlib import Path
from typing import TypedDict

import jax
import jaxlib.version

import mgmae_jax
from mgmae_jax.data.cores import usable_cores
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.run_info import git_revision


class Machine(TypedDict):
    """What `describe_machine` returns; JSON values."""

    platform: str
    device_kind: str
    devices: int
    processor: str
    cores: int | None
    """Those that this process may use."""
    mgmae_jax: str
    jax: str
    jaxlib: str
    python: str
    git_revision: str | None
    """None if there is no repository."""


def describe_machine() -> Machine:
    """The devices and the processor of this machine, and the versions of what runs on it.

    Raises:
      MgmaeError: JAX's backend does not start.
    """
    check_backend()
    return {
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processor": _processor(),
        "cores": usable_cores(),
        "mgmae_jax": mgmae_jax.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.version.__version__,
        "python": platform.python_version(),
        "git_revision": git_revision(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
