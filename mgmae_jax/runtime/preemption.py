"""Notices that the machine is about to be taken away: SIGTERM, in one process or in any of many."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Listens for SIGTERM, which does not end the process while this is open. May be nested."""

    def __init__(self) -> None:
        self._terminated = False
        self._previous_handler: Any = None
        # A distributed run has JAX's own handler, which tells the other processes and agrees with them on a step.
        if not jax.distributed.is_initialized() and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        self._terminated = True
        if isinstance(getattr(self._previous_handler, "__self__", None), Preemption):
            self._previous_handler(signum, frame)

    def reached(self, step: int) -> bool:
        """Says whether to save and exit now.

        To be called after every step, by every process. In a distributed run it becomes true in all processes at the
        same step, soon after any of them received the signal.

        Args:
          step: the step just done.
        """
        if jax.distributed.is_initialized():
            return multihost_utils.reached_preemption_sync_point(step)
        return self._terminated

    def close(self) -> None:
        """Restores the former SIGTERM handler."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None
