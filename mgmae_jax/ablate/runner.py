"""Runs the cells of a grid: each claimed, its parts child processes one after another, failures recorded."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mgmae_jax.ablate.cells import Cell, Part
from mgmae_jax.ablate.claims import claim, is_orphan, waited_for
from mgmae_jax.errors import FileError, StoppedError
from mgmae_jax.runtime.session import LOCK

PROGRAM = (sys.executable, "-m", "mgmae_jax.cli")
"""What a part's command is run by."""
_STOPPED = {signal.SIGTERM, signal.SIGINT}
_TIED = (sys.executable, "-m", "mgmae_jax.ablate.tied")


def print_line(line: str) -> None:
    """Says something on standard error."""
    print(line, file=sys.stderr, flush=True)


class Place(NamedTuple):
    """Where one of the cells that are run at a time has its commands run.

    Attributes:
      environment: what to change in their environment.
      cores: the CPU cores that they have to themselves; none: all.
    """

    environment: Mapping[str, str] = {}
    cores: frozenset[int] = frozenset()


def places(jobs: int, devices: Sequence[str]) -> list[Place]:
    """Places for cells: one for each GPU, or `jobs` with a share of the CPU cores each.

    A step of a small model uses a second core badly: two cells with a core each are done sooner than one after the
    other with both.
    """
    if devices:
        return [Place({"CUDA_VISIBLE_DEVICES": device}) for device in devices]
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if not 1 < jobs <= len(cores):
        return [Place()] * jobs
    return [Place(cores=frozenset(cores[job::jobs])) for job in range(jobs)]


@dataclasses.dataclass
class Runner:
    """Runs cells that are not done and that no other process has claimed.

    Attributes:
      cells: the cells, in the order in which they are started.
      prepare: makes sure that a cell's data are there, before its first part; called by one process at a time.
      data_lock: the lock file for that.
      places: one for each cell that is run at a time.
      retry: whether to try failed parts again.
      program: see `PROGRAM`.
      say: says one line.
    """

    cells: Sequence[Cell]
    prepare: Callable[[Cell], None]
    data_lock: Path
    places: Sequence[Place] = (Place(),)
    retry: bool = False
    program: Sequence[str] = PROGRAM
    say: Callable[[str], None] = print_line

    def __post_init__(self) -> None:
        self._queue: collections.deque[Cell] = collections.deque(self.cells)
        self._in_use: list[Cell] = []
        self._children: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._errors: list[BaseException] = []
        self._seconds: dict[str, list[float]] = {}

    def run(self) -> list[Cell]:
        """Runs everything that is to be done.

        Returns:
          The cells that other processes were running.

        Raises:
          StoppedError: a part received SIGTERM; the same call resumes.
          FileError: a cell's folder or data cannot be written.
          KeyboardInterrupt: Ctrl-C, after the parts that were running have saved and ended.
        """
        threads = [threading.Thread(target=self._work, args=(place,)) for place in self.places]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop()
            for thread in threads:
                thread.join()
            raise
        if self._errors:
            raise self._errors[0]
        return [cell for cell in self._in_use if not all(part.done for part in cell.parts)]

    def _work(self, place: Place) -> None:
        """Takes cells until none is left."""
        try:
            if place.cores:
                os.sched_setaffinity(0, place.cores)  # of this thread, and so of the children that it starts
            while not self._stopping.is_set() and (cell := self._next()) is not None:
                self._run_cell(cell, place.environment)
        except BaseException as error:
            self._errors.append(error)
            self._stop()

    def _next(self) -> Cell | None:
        with self._guard:
            if self._queue:
                return self._queue.popleft()
            # A killed process's children are still saving: nobody else continues with their cells.
            orphan = next((cell for cell in self._in_use if is_orphan(cell.folder)), None)
            if orphan is not None:
                self._in_use.remove(orphan)
        if orphan is not None:
            self.say(f"{orphan}: waiting for a part that a killed process left")
            with waited_for(orphan.folder / LOCK):
                pass
        return orphan

    def _run_cell(self, cell: Cell, environment: Mapping[str, str]) -> None:
        if all(part.state in (("done",) if self.retry else ("done", "failed")) for part in cell.parts):
            return
        with claim(cell.folder) as lock:
            if lock is None:
                with self._guard:
                    self._in_use.append(cell)
                return
            todo = self._todo(cell)
            if todo:
                with waited_for(self.data_lock):
                    self.prepare(cell)
            for part in todo:
                if self._stopping.is_set():
                    return
                needed = [other for other in cell.parts if other.name in part.needs]
                if all(other.done for other in needed):
                    self._run_part(cell, part, environment, lock)

    def _todo(self, cell: Cell) -> list[Part]:
        """The parts that can be run; forgets their failures if they are to be tried again."""
        todo = []
        for part in cell.parts:
            if part.state == "failed" and not self.retry:
                continue
            if not part.done:
                part.failure_file.unlink(missing_ok=True)
                todo.append(part)
        ended = {part.name for part in cell.parts if part.state == "failed"}
        return [part for part in todo if not ended & set(part.needs)]

    def _run_part(self, cell: Cell, part: Part, environment: Mapping[str, str], lock: int) -> None:
        command = [*self.program, *part.argv]
        on = "".join(f"{name}={value} " for name, value in environment.items())
        self.say(f"{cell}: {part.name} begins; {on}log in {part.log}")
        began = time.monotonic()
        try:
            with part.log.open("ab") as log:
                log.write(f"$ {on}{shlex.join(command)}\n".encode("utf-8", "surrogateescape"))
                log.flush()
                child = self._start(command, log, environment, lock)
        except OSError as error:
            raise FileError(part.log, f"cannot be written ({error.strerror or error}): free space there") from error
        status = child.wait() if child is not None else -signal.SIGTERM
        with self._guard:
            self._children.discard(child)
        seconds = time.monotonic() - began
        if part.done:
            with self._guard:
                self._seconds.setdefault(part.name, []).append(seconds)
            self.say(f"{cell}: {part.name} done in {duration(seconds)}; {self.outlook()}")
        elif self._stopping.is_set() or -status in _STOPPED or status - 128 in _STOPPED:
            self._stopping.set()
            raise StoppedError(f"stopped during {part.name} of {cell}; the same command resumes.")
        else:
            part.fail(status)
            self.say(f"{cell}: {part.name} FAILED with status {status}, see {part.log}; {self.outlook()}")

    def _start(
        self, command: Sequence[str], log: object, environment: Mapping[str, str], lock: int
    ) -> subprocess.Popen[bytes] | None:
        """Starts a child, unless the runner is stopping; it inherits the cell's lock."""
        with self._guard:
            if self._stopping.is_set():
                return None
            child = subprocess.Popen(
                [*_TIED, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,  # type: ignore[call-overload]
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                pass_fds=[lock],
                process_group=0,  # lest Ctrl-C reaches it: a training saves at SIGTERM only
            )
            self._children.add(child)
            return child

    def _stop(self) -> None:
        """Has the children save and end."""
        with self._guard:
            self._stopping.set()
            for child in self._children:
                with contextlib.suppress(ProcessLookupError):
                    child.terminate()

    def outlook(self) -> str:
        """How many parts are done, and how long the others may take, by the mean of this run's parts of their kind."""
        states = [{part.name: (part, part.state) for part in cell.parts} for cell in self.cells]
        parts = [part for cell in states for part, _ in cell.values()]
        left = [
            part
            for cell in states
            for part, state in cell.values()
            if state in ("open", "begun") and not any(cell[need][1] == "failed" for need in part.needs)
        ]
        with self._guard:
            known = {name: sum(times) / len(times) for name, times in self._seconds.items()}
        seconds = sum(known.get(part.name, 0.0) for part in left) / len(self.places)
        least = "at least" if any(part.name not in known for part in left) else "about"
        done = f"{len(parts) - len(left)} of {len(parts)} parts ended"
        return f"{done}, {least} {duration(seconds)} left" if left else done


def duration(seconds: float) -> str:
    """As 4:10 or 2:31:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
