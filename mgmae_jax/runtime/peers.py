"""What the processes of a run know of each other: which are there, and which has failed.

An error that only one process meets would leave the others waiting in a collective operation, and JAX would end them
after minutes, with stacks of C++. So every process writes a sign of life into JAX's key-value store each second, and
reads those of the others; and a process that fails says so there before it leaves. The others then leave within
seconds, with one line, whatever they are doing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
from jax._src import distributed

from mgmae_jax.errors import MgmaeError, PeerError

FAILED_ELSEWHERE = 3
"""The exit status of a process that leaves because another one failed."""
SILENCE_S = 40.0  # after which a process is taken for dead
_EVERY_S = 1.0
_GRACE_S = 2.0  # for a process that is about to report the same error itself
_FAREWELL_S = 5.0  # for the others to read an error from process 0, which holds the store
_FOLDER = "mgmae_jax/"
_ERROR = f"{_FOLDER}error"
_POSTS = "mgmae_jax_posts/"  # apart from what is read each second
# What the libraries for collective operations say when another process is gone.
_LOST = r"gloo|nccl|connection (closed|reset|refused)|socket closed|broken pipe|unavailable|heartbeat|deadline"


class Peers:
    """The other processes of this run, watched from a thread; made by `watch`.

    Args:
      store: JAX's client of the key-value store.
      process: this process's number.
      count: how many there are.
      clock: the time in seconds.
      leave: ends this process at once with a status.
    """

    def __init__(
        self,
        store: Any,
        process: int,
        count: int,
        clock: Callable[[], float] = time.monotonic,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self._store, self._process, self._count = store, process, count
        self._clock, self._leave = clock, leave
        self._beat = 0
        self._seen = {other: ("", clock()) for other in range(count) if other != process}
        self._told_at: float | None = None
        self._leaving = threading.Event()

    def start(self) -> None:
        """Starts the thread, which ends with the process."""
        threading.Thread(target=self._watch, name="peers", daemon=True).start()

    def look(self) -> None:
        """Gives a sign of life and looks at the others; ends this process if one of them has failed or is silent."""
        self._beat += 1
        self._store.key_value_set(f"{_FOLDER}beat/{self._process}", str(self._beat), allow_overwrite=True)
        found = dict(self._store.key_value_dir_get(_FOLDER))
        now = self._clock()
        if _ERROR in found and json.loads(found[_ERROR])["process"] != self._process:
            self._told_at = now if self._told_at is None else self._told_at
            if now - self._told_at >= _GRACE_S:
                self.end(self._line(json.loads(found[_ERROR])))
        for other, (beat, since) in self._seen.items():
            new = found.get(f"{_FOLDER}beat/{other}", "")
            if new != beat:
                self._seen[other] = (new, now)
            elif now - since > SILENCE_S:
                lost = f"process {other} of {self._count} has given no sign of life for {SILENCE_S:g} s"
                self.end(f"{lost}: it was killed, or its machine or network is gone. The same command resumes.")

    def leave(self, told: str, status: int, error: BaseException) -> None:
        """Ends this process because of an error, after telling the others; does not return.

        Args:
          told: the error as it is to be printed. If another process has printed the same words, they are not repeated.
          status: the exit status.
          error: what was raised. One that comes of another process's failure is not printed, but which process it was.
        """
        if isinstance(error, PeerError) or self._lost_another(error):
            # Not before the other has told its error: launch/local.sh ends all of them as soon as one has left.
            self.end(self._line(self._awaited_error(_GRACE_S)), FAILED_ELSEWHERE)
        record = {"process": self._process, "host": socket.gethostname(), "message": told[:2000]}
        first = record
        try:
            self._store.key_value_set(_ERROR, json.dumps(record), allow_overwrite=False)
        except jax.errors.JaxRuntimeError:  # another one was first, or the store is gone with process 0
            first = self._first_error() or record
        repeated = first["process"] != self._process and first["message"] == record["message"]
        self.end(None if repeated else told, status)

    def _lost_another(self, error: BaseException) -> bool:
        """Whether an error comes of another process's failure; waits until it is known which process that is."""
        lost = _reads_like_a_lost_process(error)
        if isinstance(error, MgmaeError) and not lost:
            return False
        # Meanwhile the thread may find that a process is silent, and end this one.
        first = self._awaited_error(SILENCE_S + 10 * _EVERY_S if lost else _GRACE_S)
        return first is not None and bool(first["process"] != self._process)

    def end(self, line: str | None, status: int = FAILED_ELSEWHERE) -> None:
        """Prints a text, and ends this process without waiting for anything.

        Process 0, in which the store lives, leaves last, so that the others can read there.
        """
        self._leaving.set()
        if line:
            print(f"\n{line}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self._store.key_value_set(f"{_FOLDER}left/{self._process}", "", allow_overwrite=True)
            until = time.monotonic() + _FAREWELL_S
            while self._process == 0 and time.monotonic() < until:
                if len(self._store.key_value_dir_get(f"{_FOLDER}left/")) == self._count:
                    break
                time.sleep(0.1)
        except jax.errors.JaxRuntimeError:
            pass
        self._leave(status)

    def post(self, kind: str, name: str, value: str) -> None:
        """Tells the other processes something.

        Args:
          kind: what kind of thing it is.
          name: its name, any text; telling of it again replaces the value.
          value: what there is to say.
        """
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        self._store.key_value_set(f"{_POSTS}{kind}/{digest}", json.dumps([name, value]), allow_overwrite=True)

    def posted(self, kind: str) -> dict[str, str]:
        """What all processes have told of a kind: values by name."""
        return dict(json.loads(entry) for _, entry in self._store.key_value_dir_get(f"{_POSTS}{kind}/"))

    def _watch(self) -> None:
        while not self._leaving.wait(_EVERY_S):
            try:
                self.look()
            except jax.errors.JaxRuntimeError:  # the store is gone with process 0, and JAX ends this process
                return

    def _awaited_error(self, seconds: float) -> dict[str, Any] | None:
        """The first error that any process tells, for which it waits that long."""
        until = time.monotonic() + seconds
        while (found := self._first_error()) is None and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def _first_error(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._store.key_value_try_get(_ERROR))
        except (jax.errors.JaxRuntimeError, ValueError):
            return None
        return found

    def _line(self, error: dict[str, Any] | None) -> str:
        if error is None:
            return "another process has failed and explains why: stopping too"
        where = f"process {error['process']} of {self._count}, on {error['host']},"
        return f"{where} has failed and explains why: stopping too"


def _reads_like_a_lost_process(error: BaseException | None) -> bool:
    """Whether an error is, or was raised from, one of the libraries for collective operations.

    The words of this package's own errors do not count, as they may hold any file's name: what they were raised from
    does, so that a checkpoint whose writing failed for want of a process is not put down to the disk.
    """
    if error is None:
        return False
    own = isinstance(error, MgmaeError)
    lost = not own and re.search(_LOST, str(error), re.IGNORECASE) is not None
    return lost or _reads_like_a_lost_process(error.__cause__)


_peers: Peers | None = None


def watch() -> None:
    """Starts watching the other processes of this run, once `jax.distributed` is initialised."""
    global _peers
    state = distributed.global_state
    if _peers is None and state.client is not None and state.num_processes > 1:
        _peers = Peers(state.client, state.process_id, state.num_processes)
        _peers.start()


def current() -> Peers | None:
    """The watched processes; None in a run of one process."""
    return _peers
