"""One line on the terminal that shows the run's progress."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

_BAR = 24  # characters
_WINDOW = 20  # updates that the speed is computed from


class Progress:
    """Shows steps, loss, speed and the time left.

    On a terminal one line is rewritten; elsewhere a whole line is printed at most every `interval` seconds, and one
    for the last step. The time left is computed from the latest updates, without the first, which compiles.

    Args:
      total_steps: the step at which the run ends.
      start_step: the step it starts from: 0, or the restored checkpoint's.
      stream: where to write.
      interval: seconds between lines if the stream is not a terminal.
      clock: returns the time in seconds.
      unit: what is counted.
      items: what the speed counts.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "step",
        items: str = "clips",
    ) -> None:
        self._total, self._start = total_steps, start_step
        self._begun = False
        self._unit, self._items = unit, items
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._interval = interval
        self._clock = clock
        self._unit, self._items = unit, items
        self._printed_at = -float("inf")
        # The first entry is the end of the first update: start-up and compilation come before it.
        self._marks: deque[tuple[float, int]] = deque(maxlen=_WINDOW + 1)
        self._width = 0
        self._line_open = False
        if start_step < total_steps:
            self._show(start_step, f"{unit} {start_step}/{total_steps}  compiling the first step")

    def update(self, step: int, *, loss: float, lr: float, clips_per_s: float) -> None:
        """Shows a step that is done.

        Args:
          step: the number of updates done.
          loss: this step's loss.
          lr: the learning rate; printed only in whole lines, where there is room.
          clips_per_s: speed over all devices.
        """
        rate = "" if self._rewrites else f"  lr {lr:.2e}"
        self.advance(step, f"loss {loss:.4f}{rate}  {clips_per_s:.1f} {self._items}/s")

    def begun(self, seconds: float, processor: float) -> None:
        """Says once how long the process took until its first step was done, and how much time of all cores."""
        if not self._begun:
            took = f"done {seconds:.0f} s after the start, {processor:.0f} s of processor time"
            self._show(self._start, f"{self._unit} {self._start + 1}/{self._total}  {took}")
        self._begun = True

    def advance(self, step: int, numbers: str) -> None:
        """Shows that `step` steps are done, with some of their numbers."""
        now = self._clock()
        self._marks.append((now, step))
        last = step >= self._total
        if not self._rewrites and not last and now - self._printed_at < self._interval:
            return
        self._printed_at = now
        done = f"{step / self._total:4.0%}  {self._unit} {step}/{self._total}"
        self._show(step, f"{done}  {numbers}  ETA {self._eta(step)}")

    def _show(self, step: int, line: str) -> None:
        if not self._rewrites:
            self._stream.write(line + "\n")
        else:
            columns = shutil.get_terminal_size().columns
            bar = min(_BAR, columns - len(line) - 4)
            if bar > 0:
                filled = step * bar // self._total
                line = f"[{'#' * filled}{'.' * (bar - filled)}] {line}"
            line = line[: columns - 1]  # a line that wraps cannot be rewritten
            self._stream.write(f"\r{line.ljust(self._width)}")
            self._width = len(line)
            self._line_open = True
            if step >= self._total:
                self.close()
        self._stream.flush()

    def close(self) -> None:
        """Ends the line that is being rewritten, so that what comes next starts on a new line."""
        if self._line_open:
            self._stream.write("\n")
            self._line_open = False

    def _eta(self, step: int) -> str:
        (start, first), (now, latest) = self._marks[0], self._marks[-1]
        if latest <= first or now <= start:
            return "--:--" if step < self._total else "0:00"
        seconds = round((self._total - step) * (now - start) / (latest - first))
        hours, rest = divmod(seconds, 3600)
        minutes, seconds = divmod(rest, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
