"""Keeps compiled programs on disk, so that a restarted run starts training at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jax

from mgmae_jax.errors import FileError
from mgmae_jax.runtime.paths import cache_folder, local_path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def enable_compilation_cache(folder: str | None = None) -> Path:
    """Turns on JAX's persistent compilation cache.

    Args:
      folder: where to keep it. $JAX_COMPILATION_CACHE_DIR takes precedence; without either it is the folder "xla" of
        `cache_folder`, by default ~/.cache/mgmae_jax/xla.

    Returns:
      The folder in use.

    Raises:
      MgmaeError: the folder is remote, or the home folder is needed and not known.
      FileError: the folder cannot be created or written to.
    """
    other = ""
    if own := os.environ.get(VARIABLE):
        path = local_path(own, f"${VARIABLE}")
    elif folder:
        path, other = local_path(folder, "config.compile_cache"), " or config.compile_cache"
    else:
        path, other = cache_folder("xla"), " or $MGMAE_CACHE"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        remedy = f"set ${VARIABLE}{other} to a folder that you can write to"
        raise FileError(path, f"cannot hold compiled programs ({error.strerror or error}): {remedy}") from error
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Training steps take longer than this to compile; the many one-operation programs of start-up do not.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return path
