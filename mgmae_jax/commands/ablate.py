"""`mgmae ablate`: a grid of experiments with several seeds, and its table (the paper's tables in miniature)."""

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from mgmae_jax.ablate.cells import RETRY, Cell, grid_cells
from mgmae_jax.ablate.grid import MAX_SEEDS, Configs, Grid, read_grid
from mgmae_jax.ablate.results import COLUMNS, Results, as_json, markdown, read_results
from mgmae_jax.ablate.runner import Runner, places, print_line
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.flow import shard
from mgmae_jax.commands.options import command_parser, path_option
from mgmae_jax.datasets.find import DATASETS, Request, Split, dataset_name
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.evaluate.compare import most_different
from mgmae_jax.runtime.files import read_object, write_json, write_text
from mgmae_jax.show.ablation import RowFigure, draw_rows
from mgmae_jax.show.class_differences import draw_class_differences

GRIDS = "grids"
"""The folder with the definitions of the grids that have begun in the folder of experiments."""
_SLURM = "slurm"
_TASK, _FIRST, _COUNT, _STEP = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "COUNT", "STEP"))
EXAMPLE = """examples:
  mgmae ablate --grid ablation/main --out runs/ablation
  mgmae ablate --grid ablation/main --out runs/ablation --list
  mgmae ablate --table runs/ablation

A grid is rows of changed fields times seeds (docs/ABLATIONS.md); each cell is a pre-training, its probe, and where the
grid says so its fine-tuning, run as `mgmae` commands one after another. Run the same command again to resume: what is
done is recognised by its outputs. Any number of processes may run it at once in the same --out. A part that fails is in
the table, and is tried again with --retry. Grids in the same --out share the runs that they have in common.

Two CPU cores: --jobs 2. GPUs: --devices 0 1 2 3. Slurm: sbatch --array=0-7 with --shard slurm, which takes every
eighth cell by SLURM_ARRAY_TASK_ID; or --shard 0/8 to --shard 7/8 by hand."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae ablate`."""
    command = command_parser("ablate", __doc__, EXAMPLE)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--grid", metavar="NAME", help="a grid's name, like ablation/main, or a Python file")
    what.add_argument(
        "--table", type=path_option("--table"), metavar="DIR", help="print and write the tables of an --out, as it is"
    )
    command.add_argument("--out", type=path_option("--out"), metavar="DIR", help="folder for all runs and tables")
    command.add_argument("--seeds", type=int, metavar="N", help=f"how many, at most {MAX_SEEDS}; default: the grid's")
    command.add_argument(
        "--shard", default="0/1", metavar="I/N", help="every N-th cell from the I-th, from 0; or slurm"
    )
    at_once = command.add_mutually_exclusive_group()
    at_once.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="cells to run at a time, each on its share of the CPU cores"
    )
    at_once.add_argument(
        "--devices",
        nargs="+",
        action="extend",
        default=[],
        metavar="GPU",
        help="a cell at a time on each, by CUDA_VISIBLE_DEVICES",
    )
    command.add_argument("--retry", action="store_true", help="try the parts that failed again")
    only = command.add_mutually_exclusive_group()
    only.add_argument("--list", action="store_true", help="only show the cells, and what is done of each")
    only.add_argument("--dry-run", action="store_true", help="only print the commands that are left to run")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae ablate"."""
    command = parser()
    args = command.parse_args(argv)
    if args.table is not None:
        if given := _without_effect(command, args):
            command.error(f"{', '.join(given)}: only with --grid; the DIR of --table is the --out of a grid")
        for grid in known_grids(args.table):
            print(write_tables(read_results(grid, args.table), args.table))
        return
    if args.out is None:
        command.error("--out: give the folder for the runs of --grid")
    if args.jobs < 1:
        command.error(f"--jobs {args.jobs}: give 1 or more")
    if len(set(args.devices)) < len(args.devices):
        command.error(f"--devices {' '.join(args.devices)}: name each once")
    config = load_config(args.grid, flag="--grid")
    grid, configs = read_grid(args.grid, config, load_config, args.seeds)
    cells = list(shard(grid_cells(grid, args.out), shard_of(args.shard, os.environ)))
    if args.list or args.dry_run:
        print(listed(cells) if args.list else commands_left(cells))
        return
    begin(grid, args.out)
    runner = Runner(
        cells,
        lambda cell: prepare_data(cell, configs),
        args.out / "data.lock",
        places(args.jobs, args.devices),
        args.retry,
    )
    others = runner.run()
    results = read_results(grid, args.out)
    print(write_tables(results, args.out))
    if others:
        print_line(f"{len(others)} cells are being run by other processes: {'; '.join(map(str, others))}")
    if results.failures:
        raise MgmaeError(f"{len(results.failures)} parts failed, see the table; --retry tries them again")


def _without_effect(command: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """The options that are given beside `--table`, which does without them."""
    options = ("out", "seeds", "shard", "jobs", "devices", "retry", "list", "dry_run")
    return [f"--{name.replace('_', '-')}" for name in options if getattr(args, name) != command.get_default(name)]


def shard_of(value: str, environ: Mapping[str, str]) -> str:
    """The part of the cells "I/N" that `--shard` names; "slurm" is that of this task of a Slurm job array.

    Raises:
      MgmaeError: it is "slurm" outside of a job array, or in one whose numbers have gaps.
    """
    if value != _SLURM:
        return value
    try:
        task, first, count = (int(environ[name]) for name in (_TASK, _FIRST, _COUNT))
        step = int(environ.get(_STEP, "1"))
    except (KeyError, ValueError) as error:
        raise MgmaeError(
            f"--shard {_SLURM}: {_TASK}, {_FIRST} and {_COUNT} are not all numbers here: start it in a job array "
            "(sbatch --array=0-7), or give --shard I/N."
        ) from error
    part, rest = divmod(task - first, step)
    if rest or not 0 <= part < count:
        raise MgmaeError(
            f"--shard {_SLURM}: {_TASK}={task} is not the {_COUNT}={count} tasks from {first} in steps of {step}: "
            "give the array as --array=0-7, without gaps."
        )
    return f"{part}/{count}"


def prepare_data(cell: Cell, configs: Configs) -> None:
    """Renders the procedural videos that a cell reads, if they are missing, with their flow if it is read.

    Args:
      cell: the cell.
      configs: the grid's.
    """
    wanted: list[tuple[ConfigDict, Split]] = [(configs.rows[cell.row], "train")]
    for config in (configs.probe, configs.finetune):
        wanted += [] if config is None else [(config, "train"), (config, "test")]
    for config, split in wanted:
        if (known := dataset_name(config)) is not None:
            flow = "flow" in config and config.flow.source == "stored"
            DATASETS[known].prepare(Request(split, cell.seed, config.data[known], flow, None))


def listed(cells: Sequence[Cell]) -> str:
    """The cells with the state of each part: done, failed, begun or open."""
    width = max((len(str(cell)) for cell in cells), default=0)
    lines = [
        "  ".join([f"{cell!s:{width}}", *(f"{part.name} {part.state}" for part in cell.parts), str(cell.folder)])
        for cell in cells
    ]
    states = [part.state for cell in cells for part in cell.parts]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("done", "failed", "begun", "open"))
    return "\n".join([*lines, f"{len(cells)} cells, {len(states)} parts: {counts}"])


def commands_left(cells: Sequence[Cell]) -> str:
    """The commands of the parts that are not done, in order; those of failed parts as well."""
    left = [["mgmae", *part.argv] for cell in cells for part in cell.parts if not part.done]
    return "\n".join(shlex.join(words) for words in left) or "# nothing is left to run"


def begin(grid: Grid, out: Path) -> None:
    """Writes what a grid consists of, for its table.

    Raises:
      FileError: a grid of the same file name and another title has begun in the folder: its tables would be lost.
    """
    path = out / GRIDS / f"{grid.name}.json"
    if path.exists() and (title := read_object(path, remedy=RETRY).get("title")) != grid.title:
        raise FileError(
            path,
            f"is of another grid, {title!r}, and the tables of this one, {grid.title!r}, would take the place of its: "
            "give another --out, or name one of them differently; if it has only a new title, remove this file",
        )
    write_json(path, grid.to_json())


def known_grids(out: Path) -> list[Grid]:
    """The grids that have begun in a folder of experiments.

    Raises:
      FileError: there are none, or one cannot be read.
    """
    paths = sorted((out / GRIDS).glob("*.json"))
    if not paths:
        raise FileError(out, f"has no {GRIDS}/*.json: give --table the --out of `mgmae ablate --grid`")
    grids = []
    for path in paths:
        try:
            grids.append(Grid.from_json(read_object(path, remedy=RETRY)))
        except (KeyError, TypeError, AttributeError) as error:
            raise FileError(path, f"is not a grid of this version ({error!r}): run the grid again") from error
    return grids


def write_tables(results: Results, out: Path) -> str:
    """Writes OUT/NAME.md, NAME.json and NAME.png, and a picture of the classes of each row that is compared by class.

    Returns:
      The table as Markdown.
    """
    grid, text = results.grid, markdown(results)
    write_text(out / f"{grid.name}.md", text)
    write_json(out / f"{grid.name}.json", as_json(results))
    panels = [
        (column.heading, rows)
        for name, column in COLUMNS.items()
        if column.compared and (rows := _figures(results, name))
    ]
    if panels:
        draw_rows(panels, grid.baseline, grid.axis, grid.title, out / f"{grid.name}.png")
    for number, (row, classes) in enumerate(results.classes.items(), start=1):
        shown = most_different(classes)
        bars = [(one.name, one.videos, one.difference) for one in shown]
        names = (results.against(row), row)
        title = f"{row} against {results.against(row)}: the classes that differ most (videos in brackets)"
        draw_class_differences(bars, names, title, out / f"{grid.name}_classes{number}.png")
    return text


def _figures(results: Results, column: str) -> list[RowFigure]:
    """The rows that have a figure, in the unit of the table."""
    factor, rows = COLUMNS[column].factor, []
    for row, values in results.values.items():
        if (mean := results.mean(row, column)) is not None:
            points = tuple(factor * value for value in values[column].values())
            rows.append(RowFigure(row, points, mean.value, mean.error or 0.0))
    return rows
