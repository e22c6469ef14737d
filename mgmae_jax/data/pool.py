"""Work on many videos at once, in processes of its own."""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import Any, TypeVar

import cv2

from mgmae_jax.data.workers import end_with_parent
from mgmae_jax.errors import MgmaeError

In = TypeVar("In")
Out = TypeVar("Out")
_STATUS = 130  # of a process that Ctrl-C has ended
_SHOWN = 16  # calls that a message names

_busy = False  # whether this process is in a call


@contextlib.contextmanager
def mapper(
    processes: int, what: str, names: Callable[[In], Sequence[str]]
) -> Iterator[Callable[[Callable[[In], Out], Iterable[In]], Iterator[Out]]]:
    """A `map`, in order, to be called once: the built-in one, or one whose calls run in new processes.

    Leaving the context by an error waits for the calls that have begun and drops all others. A terminal's Ctrl-C, which
    reaches every process, ends the calls as it would here, after their own cleaning up; the processes also end if this
    one is killed.

    Args:
      processes: 1 or more; with more than one, the function must be picklable.
      what: the work, for errors: "motion shapes".
      names: of the videos of a call, for errors.

    Raises:
      MgmaeError: the processes could not start or were killed; it names the videos that they were at.
    """
    if processes == 1:
        yield map
        return
    # Forking is unsafe once JAX runs threads, so the processes are spawned.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin)
    calls: collections.deque[tuple[In, Future[Any]]] = collections.deque()

    def results() -> Iterator[Any]:
        while calls:
            yield calls[0][1].result()
            calls.popleft()  # and with it what came of it

    def apply(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
        calls.extend((item, pool.submit(_call, function, item)) for item in items)
        return results()

    try:
        yield apply
    except BrokenProcessPool as error:
        # Calls begin in their order, so those that had begun are the first of those without a result.
        unfinished = (item for item, call in calls if isinstance(call.exception(), BrokenProcessPool))
        at = ", ".join(_shown(names(item)) for item in itertools.islice(unfinished, min(processes, _SHOWN)))
        raise MgmaeError(
            f"{what}: {processes} processes did not start or were killed (out of memory?) at {at}: run with one "
            'process, or without the video that does it, or, in a script, call under `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _shown(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)} videos)"


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
