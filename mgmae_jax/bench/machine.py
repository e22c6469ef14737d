"""What a measurement was made on and with."""

import os
import platform
from pathlib import Path

import jax
import jaxlib

import mgmae_jax
from mgmae_jax.runtime.run_info import git_revision


def describe_machine() -> dict[str, str | int | None]:
    """The devices and the processor of this machine, and the versions of what runs on it.

    Returns:
      JSON values: platform, device_kind, devices, processor, cores (that this process may use), mgmae_jax, jax, jaxlib,
      python, git_revision (None where there is no repository).
    """
    return {
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "mgmae_jax": mgmae_jax.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "python": platform.python_version(),
        "git_revision": git_revision(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
