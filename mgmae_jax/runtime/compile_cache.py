"""Keeps compiled programs on disk, so that a restarted run starts training at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jax

from mgmae_jax.errors import FileError


def enable_compilation_cache(folder: str | None = None) -> Path:
    """Turns on JAX's persistent compilation cache.

    Args:
      folder: where to keep it. $JAX_COMPILATION_CACHE_DIR takes precedence; without either it is
        $XDG_CACHE_HOME/mgmae_jax/xla, by default ~/.cache/mgmae_jax/xla.

    Returns:
      The folder in use.

    Raises:
      FileError: the folder cannot be created or written to.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mgmae_jax" / "xla"
    path = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or folder or default).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        remedy = "set $JAX_COMPILATION_CACHE_DIR to a folder that you can write to"
        raise FileError(path, f"cannot hold compiled programs ({error.strerror or error}): {remedy}") from error
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Training steps take longer than this to compile; the many one-operation programs of start-up do not.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return path
