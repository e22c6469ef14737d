"""The cells of a grid, a row with a seed each, and their parts: commands that are done when their own outputs are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgmae_jax.ablate.grid import Grid, Stage
from mgmae_jax.evaluate.report import REPORT_FILE
from mgmae_jax.runtime.checkpoint import saved_steps
from mgmae_jax.runtime.files import read_object, write_json
from mgmae_jax.runtime.metrics import METRICS_FILE, read_metrics
from mgmae_jax.train.accuracy import FOLDER as ACCURACY
from mgmae_jax.train.baselines import GUESSES

CELLS = "cells"
"""The folder of all cells in that of the experiments: CELLS/ROW/seedN."""
RETRY = ": remove it, and run the same command again."
"""How the error of a file of the grid's own ends."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A command of a cell.

    Attributes:
      name: "pretrain", "probe", "random" (the probe of random weights), "finetune" or "evaluate".
      argv: the command, without "mgmae".
      folder: where its outputs are.
      log: the file for what it prints.
      steps: the step at which a training ends.
      needs: the parts that must be done before.
    """

    name: str
    argv: tuple[str, ...]
    folder: Path
    log: Path
    steps: int = 0
    needs: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether its outputs are complete: a training's last checkpoint and final figures, or a report."""
        if self.name == "pretrain":
            return self.steps in saved_steps(self.folder) and (self.folder / GUESSES).is_file()
        if self.name == "finetune":
            return self.steps in saved_steps(self.folder) and final_accuracy(self.folder, self.steps) is not None
        return (self.folder / REPORT_FILE).is_file()

    @property
    def failure(self) -> dict[str, Any] | None:
        """What is known of its failure: "status" and "reason"; None if it has not failed."""
        if self.done or not self.failure_file.exists():
            return None
        content = read_object(self.failure_file, remedy=RETRY)
        return {"status": content.get("status"), "reason": str(content.get("reason"))}

    @property
    def failure_file(self) -> Path:
        """The file that says how it failed."""
        return self.log.with_suffix(".failed.json")

    def fail(self, status: int) -> None:
        """Records a failure; the reason is the last line of the log.

        Args:
          status: the exit status; negative for a signal.
        """
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        write_json(self.failure_file, {"status": status, "reason": last[:500], "log": str(self.log)})

    @property
    def state(self) -> str:
        """In one word: done, failed, begun or open."""
        if self.done:
            return "done"
        return "failed" if self.failure_file.exists() else "begun" if self.log.exists() else "open"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A row of a grid with one seed.

    Attributes:
      row: the row's name.
      seed: the seed.
      folder: its folder, which other grids with the same run share.
      parts: what there is to do, in order.
    """

    row: str
    seed: int
    folder: Path
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return f"{self.row}, seed {self.seed}"

    def part(self, name: str) -> Part | None:
        """The part of that name; None if the cell has none."""
        return next((part for part in self.parts if part.name == name), None)


def grid_cells(grid: Grid, out: Path) -> list[Cell]:
    """All cells of a grid, seed by seed: what is done of it at any time can be compared in pairs."""
    return [_cell(grid, out, row, seed) for seed in grid.seeds for row in range(len(grid.rows))]


def _cell(grid: Grid, out: Path, number: int, seed: int) -> Cell:
    row = grid.rows[number]
    folder = out / CELLS / row.pretrain.folder / f"seed{seed}"
    trained = folder / "pretrain"

    def parts() -> Iterator[Part]:
        argv = ("pretrain", *row.pretrain.flags(seed), "--workdir", str(trained))
        yield Part("pretrain", argv, trained, folder / "pretrain.log", row.pretrain.steps)
        if grid.probe:
            yield probe("probe", grid.probe)
        if grid.random and row.name == grid.baseline:
            yield probe("random", grid.random)
        if grid.finetune:
            tuned = folder / grid.finetune.folder
            argv = ("finetune", *grid.finetune.flags(seed), "--workdir", str(tuned), "--init", str(trained))
            log = folder / f"{grid.finetune.folder}.log"
            yield Part("finetune", argv, tuned, log, grid.finetune.steps, ("pretrain",))
            if grid.classes:
                place, log = tuned / "by_class", folder / f"{grid.finetune.folder}-evaluate.log"
                argv = ("evaluate", "--checkpoint", str(tuned), "--out", str(place))
                yield Part("evaluate", argv, place, log, needs=("pretrain", "finetune"))

    def probe(name: str, stage: Stage) -> Part:
        place = folder / stage.folder
        argv = ("probe", "--checkpoint", str(trained), *stage.flags(seed), "--out", str(place))
        return Part(name, argv, place, folder / f"{stage.folder}.log", needs=("pretrain",))

    return Cell(row.name, seed, folder, tuple(parts()))


def final_accuracy(workdir: Path, steps: int) -> float | None:
    """Top-1 accuracy, from 0 to 1, after the last step of a fine-tuning; None if it is not measured yet."""
    path = workdir / ACCURACY / METRICS_FILE
    measured = read_metrics(path) if path.exists() else []
    return next((line.get("top1", math.nan) for line in measured if line["step"] == steps), None)
