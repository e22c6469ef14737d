"""Running a measurement in a process of its own, so that its peak of memory is its own."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import jax

from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.host_memory import keep_freed_memory

Result = TypeVar("Result")


def in_fresh_process(function: Callable[..., Result], *args: Any) -> Result:
    """Calls a function in a new Python process, where nothing is compiled yet and the compilation cache is off.

    The caller must not have used an accelerator: the new process would lack the memory that it holds.

    Args:
      function: picklable, by its module and name.
      *args: picklable.

    Returns:
      What the function returns.

    Raises:
      MgmaeError: the process was killed. Errors of the function are raised unchanged.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_prepare) as pool:
        try:
            return pool.submit(function, *args).result()
        except BrokenProcessPool as error:
            raise MgmaeError(
                "the measuring process was killed, most likely because memory ran out: give a smaller --batch-size"
            ) from error


def _prepare() -> None:
    keep_freed_memory()  # as every command does: without it a step on a CPU takes a fifth longer
    jax.config.update("jax_enable_compilation_cache", False)
