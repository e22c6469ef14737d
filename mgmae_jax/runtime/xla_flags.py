"""XLA's flags that this project's programs need on NVIDIA GPUs."""

from __future__ import annotations

import importlib.util
from collections.abc import MutableMapping

# XLA's own matrix kernels: jaxlib 0.11.2 stops the process with a failed check (triton_tiling_propagation.cc) while it
# compiles RAFT for one pair of 224x224 pixels, and trying them out took most of the 215 s that the flow network's step
# took to compile on an H200. cuBLAS computes the products without them.
_GPU_FLAGS = {"--xla_gpu_enable_triton_gemm": "false"}
_GPU_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def set_xla_flags(environ: MutableMapping[str, str], *, gpu: bool | None = None) -> None:
    """Adds the flags to $XLA_FLAGS, except those that it has already; to be called before JAX starts a backend.

    Args:
      environ: the environment of this process; changed.
      gpu: whether JAX can use an NVIDIA GPU; by default, whether its plugin is installed.
    """
    if gpu is None:
        gpu = any(importlib.util.find_spec(plugin) for plugin in _GPU_PLUGINS)
    if not gpu:
        return
    given = environ.get("XLA_FLAGS", "")
    names = {flag.partition("=")[0] for flag in given.split()}
    added = [f"{name}={value}" for name, value in _GPU_FLAGS.items() if name not in names]
    environ["XLA_FLAGS"] = " ".join([*given.split(), *added])
