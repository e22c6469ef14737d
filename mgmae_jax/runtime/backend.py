"""Starts JAX's backend, and says in one line why it does not start."""

from __future__ import annotations

import os

import jax
import jax.extend.backend

from mgmae_jax.errors import MgmaeError

_SELECTS = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
_MAX_REASON = 200  # characters


def check_backend() -> None:
    """Starts JAX's backend, as the first use of a device would.

    To be called by every command that uses devices, after the processes of a run have met.

    Raises:
      MgmaeError: the backend that the environment asks for cannot be started.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an AssertionError where JAX_PLATFORMS=cuda finds no GPU
        raise MgmaeError(_no_backend(error)) from error


def _no_backend(error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0].partition(" (set JAX_PLATFORMS=")[0][:_MAX_REASON].rstrip(".")
    if "not in the list of known backends" in reason or "Unknown backend" in reason:
        reason = "no such backend is installed"  # JAX lists those that it knows, installed or not
    reason = reason or "no GPU is visible"
    there = ", ".join(available_platforms()) or "none"
    asked = [f"{name}={os.environ[name]}" for name in _SELECTS if os.environ.get(name)]
    if not asked and (selected := jax.config.values["jax_platforms"]):
        asked = [f"JAX_PLATFORMS={selected}"]  # set in Python
    if not asked:
        return f"JAX cannot start a device ({reason}): set JAX_PLATFORMS to what is available here: {there}."
    names = " and ".join(one.partition("=")[0] for one in asked)
    return (
        f"{', '.join(asked)}: JAX cannot start that here ({reason}): give what is available, {there}, or unset "
        f"{names}. JAX needs its package for a GPU (jax[cuda13]) or a TPU (jax[tpu])."
    )


def available_platforms() -> list[str]:
    """The platforms that JAX finds on this machine if nothing selects one: "cpu", "cuda"."""
    before = jax.config.values["jax_platforms"]
    try:
        jax.config.update("jax_platforms", None)
        return list(jax.extend.backend.backends())
    except (RuntimeError, AssertionError):
        return []
    finally:
        jax.config.update("jax_platforms", before)
