"""Work on many videos at once, in processes of its own."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import TypeVar

import cv2

from mgmae_jax.data.workers import end_with_parent
from mgmae_jax.errors import MgmaeError

In = TypeVar("In")
Out = TypeVar("Out")
_STATUS = 130  # of a process that Ctrl-C has ended


_busy = False  # whether this process is in a call


@contextlib.contextmanager
def mapper(processes: int, what: str) -> Iterator[Callable[[Callable[[In], Out], Iterable[In]], Iterator[Out]]]:
    """A `map`, in order: the built-in one, or one whose calls run in new processes.

    Leaving the context by an error waits for the calls that have begun and drops all others. A terminal's Ctrl-C, which
    reaches every process, ends the calls as it would here, after their own cleaning up; the processes also end if this
    one is killed.

    Args:
      processes: 1 or more; with more than one, the function must be picklable.
      what: the work, for errors: "motion shapes".

    Raises:
      MgmaeError: the processes could not start or were killed.
    """
    if processes == 1:
        yield map
        return
    # Forking is unsafe once JAX runs threads, so the processes are spawned.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield lambda function, items: pool.map(functools.partial(_call, function), items)
    except BrokenProcessPool as error:
        raise MgmaeError(
            f"{what}: {processes} processes did not start or were killed (out of memory?): run with one process, or, "
            'in a script, call under `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, _interrupted)
    cv2.setNumThreads(0)
    end_with_parent()


def _interrupted(number: int, frame: FrameType | None) -> None:
    if not _busy:  # waiting for a call, with nothing to clean up
        os._exit(_STATUS)
    raise KeyboardInterrupt


def _call(function: Callable[[In], Out], item: In) -> Out:
    global _busy
    _busy = True
    try:
        return function(item)
    except KeyboardInterrupt:
        os._exit(_STATUS)  # the executor would begin the calls that are in its queue
    finally:
        _busy = False
