"""Drawing many videos at once, in processes of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2

from mgmae_jax.errors import MgmaeError

Mapper = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]


@contextlib.contextmanager
def mapper(processes: int) -> Iterator[Mapper]:
    """A `map` over the indices of videos: the built-in one, or one whose calls run in new processes.

    Leaving the context, also by an error or Ctrl-C, waits for the calls that have begun and drops all others.

    Args:
      processes: 1 or more; with more than one, the function must be picklable.

    Raises:
      MgmaeError: the processes could not start or were killed.
    """
    if processes == 1:
        yield map
        return
    # Forking is unsafe once JAX runs threads, so the processes are spawned.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield pool.map
    except BrokenProcessPool as error:
        raise MgmaeError(
            f"motion shapes: {processes} drawing processes did not start or were killed: call again with "
            'processes=1, or, in a script, call under `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all; the first process ends the others
    cv2.setNumThreads(0)
