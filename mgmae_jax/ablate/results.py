"""The table of a grid: what its cells have measured so far, as statistics, Markdown and JSON."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mgmae_jax.ablate.cells import RETRY, Cell, Part, final_accuracy, grid_cells
from mgmae_jax.ablate.grid import RANDOM, Grid
from mgmae_jax.ablate.statistics import Difference, Mean, mean_of, paired
from mgmae_jax.evaluate.compare import ClassDifference
from mgmae_jax.evaluate.report import Report, read_report
from mgmae_jax.runtime.metrics import read_metrics
from mgmae_jax.train.baselines import GUESSES, read_guesses

Values = dict[int, float]
"""A figure by seed."""


class Column(NamedTuple):
    """A figure of the table: its heading, the factor that it is shown with, decimals, and whether it is compared."""

    heading: str
    factor: float
    decimals: int
    compared: bool


COLUMNS = {
    "error": Column("error of hidden cubes", 1, 4, True),
    "mean_cube": Column("the mean cube's", 1, 4, False),
    "probe": Column("linear probe, top-1 %", 100, 1, True),
    "finetune": Column("fine-tuned, top-1 %", 100, 1, True),
    "minutes": Column("minutes of training", 1, 1, False),
}
NOTES = """\
Means and standard errors over seeds. Differences are to the row named, paired by seed, with the paired t statistic and
the exact p-value of flipping the signs of the pairs (at least 2 / 2^n for n seeds, 0.0625 for five). The error is the
network's mean squared error of hidden cubes, on crops and masks that were not trained on, each row under its own masks:
it says how hard they are, not how good the encoder is. "The mean cube's" is the error of predicting the mean of all
cubes. Minutes are steps times the median step, without compiling, reading and measuring."""


class Failure(NamedTuple):
    """A part that failed."""

    row: str
    seed: int
    part: str
    status: int | None
    reason: str
    log: str


@dataclasses.dataclass(frozen=True)
class Results:
    """What a grid has measured so far.

    Attributes:
      grid: the grid.
      values: by row, those of random weights first, and by the names of `COLUMNS`.
      failures: what failed.
      classes: for each row that is compared class by class, its classes against those of the row to compare with:
        accuracies are means over the seeds that both have, videos their sum.
      missing: how many parts have not ended.
    """

    grid: Grid
    values: Mapping[str, Mapping[str, Values]]
    failures: tuple[Failure, ...]
    classes: Mapping[str, tuple[ClassDifference, ...]]
    missing: int

    def against(self, row: str) -> str:
        """The row that one is compared with: random weights with the baseline."""
        return next((one.against for one in self.grid.rows if one.name == row), self.grid.baseline)

    def mean(self, row: str, column: str) -> Mean | None:
        """The mean of a figure over seeds, as the table shows it; None if there is none."""
        values = self.values[row].get(column)
        return mean_of([COLUMNS[column].factor * value for value in values.values()]) if values else None

    def difference(self, row: str, column: str) -> Difference | None:
        """How much a row is above the one that it is compared with, in the unit of the table."""
        other = self.against(row)
        if row == other or not COLUMNS[column].compared:
            return None
        factor = COLUMNS[column].factor
        first, second = (
            {seed: factor * value for seed, value in self.values[name].get(column, {}).items()} for name in (row, other)
        )
        return paired(first, second)

    @property
    def columns(self) -> list[str]:
        """The figures that some row has."""
        return [name for name in COLUMNS if any(values.get(name) for values in self.values.values())]


def read_results(grid: Grid, out: Path) -> Results:
    """Reads what is done of a grid.

    Raises:
      FileError: a part's output is damaged.
    """
    cells = grid_cells(grid, out)
    values: dict[str, dict[str, Values]] = {RANDOM: {}} if grid.random else {}
    values |= {row.name: {} for row in grid.rows}
    failures, missing = [], 0
    for cell in cells:
        for part in cell.parts:
            if part.done:
                row = RANDOM if part.name == "random" else cell.row
                for name, value in READ[part.name](part).items():
                    values[row].setdefault(name, {})[cell.seed] = value
            elif (failed := part.failure) is not None:
                told = failed["status"], failed["reason"], str(part.log)
                failures.append(Failure(cell.row, cell.seed, part.name, *told))
            else:
                missing += 1
    classes = _by_class(grid, cells) if grid.classes else {}
    return Results(grid, values, tuple(failures), classes, missing)


def _of_pretraining(part: Part) -> dict[str, float]:
    errors = read_guesses(part.folder / GUESSES, "network", "mean_cube", remedy=RETRY)
    figures = {"error": errors["network"], "mean_cube": errors["mean_cube"]}
    return figures | _minutes(part)


def _minutes(part: Part) -> dict[str, float]:
    seconds = [line.get("step_seconds", math.nan) for line in read_metrics(part.folder)]
    known = [value for value in seconds if math.isfinite(value)]
    return {"minutes": statistics.median(known) * part.steps / 60} if known else {}


def _of_finetuning(part: Part) -> dict[str, float]:
    accuracy = final_accuracy(part.folder, part.steps)
    return {} if accuracy is None else {"finetune": accuracy}


def _of_probe(part: Part) -> dict[str, float]:
    return {"probe": read_report(part.folder).top1.value}


READ: Mapping[str, Callable[[Part], dict[str, float]]] = {
    "pretrain": _of_pretraining,
    "probe": _of_probe,
    "random": _of_probe,
    "finetune": _of_finetuning,
    "evaluate": lambda part: {},
}
"""What each part adds to the table, once it is done."""


def _by_class(grid: Grid, cells: Sequence[Cell]) -> dict[str, tuple[ClassDifference, ...]]:
    """Each row's classes against the other row's, after fine-tuning, or by the probe where there is none."""
    name = "evaluate" if grid.finetune else "probe"
    parts = {(cell.row, cell.seed): part for cell in cells if (part := cell.part(name)) is not None and part.done}
    found = {}
    for row in grid.rows:
        seeds = [seed for seed in grid.seeds if {(row.name, seed), (row.against, seed)} <= parts.keys()]
        if row.name == row.against or not seeds:
            continue
        sums = [_pooled([read_report(parts[name, seed].folder) for seed in seeds]) for name in (row.against, row.name)]
        both = [
            ClassDifference(one, videos, first / videos, sums[1][one][1] / sums[1][one][0])
            for one, (videos, first) in sums[0].items()
            if videos and sums[1].get(one, (0, 0))[0]
        ]
        found[row.name] = tuple(sorted(both, key=lambda one: (-one.difference, one.name)))
    return found


def _pooled(reports: Sequence[Report]) -> dict[str, tuple[int, int]]:
    """For each class the videos and how many were recognised, over all reports."""
    pooled: dict[str, tuple[int, int]] = {}
    for report in reports:
        for one in report.classes:
            videos, correct = pooled.get(one.name, (0, 0))
            pooled[one.name] = videos + one.videos, correct + one.correct
    return pooled


def markdown(results: Results) -> str:
    """The table as Markdown, with failures and notes below it."""
    grid, columns = results.grid, results.columns
    head = ["", "seeds"]
    for name in columns:
        head += [COLUMNS[name].heading] + (["difference"] if COLUMNS[name].compared else [])
    rows = [head]
    for row, values in results.values.items():
        counts = {len(values[name]) for name in columns if values.get(name)}
        line = [row, "0" if not counts else "-".join(str(end) for end in sorted({min(counts), max(counts)}))]
        for name in columns:
            line.append(_shown(results.mean(row, name), COLUMNS[name].decimals))
            if COLUMNS[name].compared:
                line.append(_compared(results, row, name))
        rows.append(line)
    lines = [f"## {grid.title}", ""]
    lines += [f"| {' | '.join(map(_cell, line))} |" for line in rows]
    lines.insert(3, f"|---|{'---:|' * (len(head) - 1)}")
    for row, classes in results.classes.items():
        lines += ["", f"By class, {row} against {results.against(row)}, accuracy in %:", ""]
        heads = f"{_cell(results.against(row))} | {_cell(row)}"
        lines += [f"| class | videos | {heads} | difference |", f"|---|{'---:|' * 4}"]
        for one in classes:
            numbers = f"{100 * one.first:.1f} | {100 * one.second:.1f} | {one.difference:+.1f}"
            lines.append(f"| {_cell(one.name)} | {one.videos} | {numbers} |")
    if results.failures:
        lines += ["", f"{len(results.failures)} failed:", ""]
        lines += [
            f"- {one.row}, seed {one.seed}: {one.part}, status {one.status}: {one.reason} ({one.log})"
            for one in results.failures
        ]
    if results.missing:
        lines += ["", f"{results.missing} parts have not ended: the table is not complete."]
    lines += ["", *([f"The paper: {grid.paper}", ""] if grid.paper else []), NOTES]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that does not end its cell."""
    return text.replace("|", "\\|")


def _shown(mean: Mean | None, decimals: int, sign: str = "") -> str:
    if mean is None:
        return ""
    error = "" if mean.error is None else f" ± {mean.error:.{decimals}f}"
    return f"{mean.value:{sign}.{decimals}f}{error}"


def _compared(results: Results, row: str, column: str) -> str:
    difference = results.difference(row, column)
    if difference is None:
        return ""
    told = [] if difference.p is None else [f"t {difference.t:.1f}", f"p {difference.p:.2g}"]
    if results.against(row) != results.grid.baseline:
        told.append(f"to {results.against(row)}")
    text = _shown(difference.mean, COLUMNS[column].decimals, "+")
    return f"{text} ({', '.join(told)})" if told else text


def _finite(values: Mapping[Any, float | None]) -> dict[Any, float | None]:
    """JSON has no NaN and no infinity: an error that is none is null."""
    return {name: None if value is None or not math.isfinite(value) else value for name, value in values.items()}


def as_json(results: Results) -> dict[str, Any]:
    """The table as JSON: every value by seed, in its own unit, with the statistics; null where one is not finite."""

    def figure(row: str, name: str) -> dict[str, Any]:
        mean, difference = results.mean(row, name), results.difference(row, name)
        told: dict[str, Any] = {"by_seed": _finite(results.values[row].get(name, {})), "shown": None}
        if mean is not None:
            told["shown"] = _finite(mean._asdict())
        if difference is not None:
            told["difference"] = _finite({**difference.mean._asdict(), "t": difference.t, "p": difference.p})
        return told

    return {
        "grid": results.grid.to_json(),
        "rows": {
            row: {"against": results.against(row), **{name: figure(row, name) for name in results.columns}}
            for row in results.values
        },
        "classes": {row: [one._asdict() for one in classes] for row, classes in results.classes.items()},
        "failures": [one._asdict() for one in results.failures],
        "missing": results.missing,
    }
