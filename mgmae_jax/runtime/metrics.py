"""The numbers of a run: one line of JSON for each reported step, and the same in TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mgmae_jax.errors import FileError
from mgmae_jax.runtime.files import write_text

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

METRICS_FILE = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class MetricWriter:
    """Writes WORKDIR/metrics.jsonl and WORKDIR/tensorboard; the second only where tensorboardX is installed.

    Args:
      workdir: the run's folder; made if absent.
      primary: whether this process writes; in the others every call does nothing.

    Raises:
      FileError: the files there cannot be written, or are not metrics.
    """

    def __init__(self, workdir: str | Path, primary: bool) -> None:
        self.path = Path(workdir) / METRICS_FILE
        self._primary = primary
        self._purge_step: int | None = None
        self._lines: TextIO | None = None
        self._board: SummaryWriter | None = None

    def truncate_from(self, step: int) -> None:
        """Drops what an earlier, interrupted run wrote from a step on, so that each step appears once.

        To be called before the first `write`.

        Args:
          step: the first step that will be written again: the one after the restored checkpoint's.
        """
        if not self._primary:
            return
        self._purge_step = step
        if self.path.exists():
            kept = [line for line in _read(self.path) if line["step"] < step]
            self._try(self._replace, "".join(_json_line(line) for line in kept))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of one step, and flushes them to the file.

        Args:
          step: the number of updates done.
          metrics: host numbers by name. A value that is not finite is null in the file, and unchanged in TensorBoard.

        Raises:
          FileError: the files cannot be written.
        """
        if not self._primary:
            return
        numbers = {name: float(value) for name, value in metrics.items()}
        self._try(self._append, step, numbers)

    def _append(self, step: int, numbers: dict[str, float]) -> None:
        if self._lines is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self._trim_torn_line()
            self._board = _open_board(self.path.parent / TENSORBOARD, self._purge_step)
            self._lines = self.path.open("a", encoding="utf-8")
        self._lines.write(_json_line({"step": step, **numbers}))
        self._lines.flush()
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def _trim_torn_line(self) -> None:
        with self.path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)

    def _replace(self, text: str) -> None:
        write_text(self.path, text)

    def _try(self, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except OSError as error:
            reason = f"cannot write metrics ({error.strerror or error}): free space or give another --workdir"
            raise FileError(self.path, reason) from error

    def close(self) -> None:
        """Closes the files."""
        if self._lines is not None:
            self._lines.close()
        if self._board is not None:
            self._board.close()
        self._lines = self._board = None

    def __enter__(self) -> MetricWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """Reads metrics back.

    Args:
      path: a metrics.jsonl, or a workdir with one.

    Returns:
      For each line `step` (an int) and its numbers; a value that was not finite is NaN. An unfinished last line, left
      by a killed run, is skipped.

    Raises:
      FileError: there is no such file, or a line in it is not a JSON object with a step and numbers.
    """
    path = Path(path)
    return _read(path / METRICS_FILE if path.is_dir() else path)


def _read(path: Path) -> list[dict[str, float]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # whole lines end with a newline
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, f"cannot be read as metrics ({error})") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            step = int(values.pop("step"))
            if wrong := [name for name, value in values.items() if not isinstance(value, int | float | None)]:
                raise ValueError(f"{wrong[0]} is not a number")
        except (ValueError, OverflowError, AttributeError, TypeError, KeyError) as error:
            reason = f"line {number} is not a JSON object with a step and numbers: {line[:80]!r}"
            raise FileError(path, reason) from error
        found.append({"step": step} | {name: math.nan if value is None else value for name, value in values.items()})
    return found


def _open_board(folder: Path, purge_step: int | None) -> SummaryWriter | None:
    """TensorBoard's writer; None on a machine set up with less than the package's requirements."""
    if importlib.util.find_spec("tensorboardX") is None:
        return None
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step)


def _json_line(values: Mapping[str, float]) -> str:
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return json.dumps(finite, allow_nan=False) + "\n"
