"""Notices that the machine is about to be taken away: SIGTERM, in one process or in any of many."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from mgmae_jax.errors import StoppedError


class Preempted(Exception):
    """Long work, such as an evaluation, was left because the machine is about to be taken away."""


class Preemption:
    """Listens for SIGTERM, which does not end the process while this is open. May be nested."""

    def __init__(self) -> None:
        self._terminated = False
        self._asked = 0
        self._previous_handler: Any = None
        # A distributed run has JAX's own handler, which tells the other processes and agrees with them on a step.
        if not jax.distributed.is_initialized() and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        self._terminated = True
        if isinstance(getattr(self._previous_handler, "__self__", None), Preemption):
            self._previous_handler(signum, frame)

    def reached(self) -> bool:
        """Whether to save and exit now; once true, it stays so.

        To be called by every process at the same places of the program: after each step, and between the batches of an
        evaluation. In a distributed run it becomes true in all processes at the same call, soon after any of them
        received the signal.
        """
        self._asked += 1
        if jax.distributed.is_initialized() and not self._terminated:
            self._terminated = multihost_utils.reached_preemption_sync_point(self._asked)
        return self._terminated

    def close(self) -> None:
        """Restores the former SIGTERM handler."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None


@contextlib.contextmanager
def stoppable(saved: str) -> Iterator[Callable[[], bool]]:
    """Listens for SIGTERM during long work that the same command resumes.

    Args:
      saved: what of the work is saved at any time, such as "the predictions".

    Yields:
      `Preemption.reached`.

    Raises:
      StoppedError: the work was left by `Preempted`.
    """
    preemption = Preemption()
    try:
        yield preemption.reached
    except Preempted as left:
        raise StoppedError(f"stopped by SIGTERM; {saved} so far are saved. Run the same command to resume.") from left
    finally:
        preemption.close()
