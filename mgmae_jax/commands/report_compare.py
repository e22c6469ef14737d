"""`mgmae report compare`: two evaluations side by side, class by class (the paper's Figure 4)."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mgmae_jax.commands.options import command_parser, path_option
from mgmae_jax.evaluate.compare import SHOWN, compare_reports, comparison_table, most_different
from mgmae_jax.evaluate.report import REPORT_FILE, read_report
from mgmae_jax.show.class_differences import draw_class_differences

EXAMPLE = """example:
  mgmae report compare runs/videomae/evaluation/400 runs/mgmae/evaluation/400 --out difference.png

A and B are folders that `mgmae evaluate` wrote (WORKDIR/evaluation/STEP), or the report.json in them. A positive
difference means that B is better."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae report compare`."""
    command = command_parser("report compare", __doc__, EXAMPLE)
    command.add_argument("first", metavar="A", type=path_option("A"), help="the report to compare with")
    command.add_argument("second", metavar="B", type=path_option("B"), help="the report to compare")
    command.add_argument(
        "--out", type=path_option("--out"), metavar="FILE", help="draw the differences: .png, .svg or .pdf"
    )
    command.add_argument(
        "--names", nargs=2, metavar=("A", "B"), help="what to call them; default: their folders' names"
    )
    command.add_argument(
        "--classes", type=int, default=SHOWN, metavar="N", help=f"how many classes to show (default {SHOWN}, as there)"
    )
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae report compare"."""
    command = parser()
    args = command.parse_args(argv)
    if args.classes < 1:
        command.error(f"--classes {args.classes}: give 1 or more")
    first, second = read_report(args.first), read_report(args.second)
    names = tuple(args.names) if args.names else default_names(args.first, args.second)
    shown = most_different(compare_reports(first, second, names), args.classes)
    print(comparison_table(first, second, names, shown))
    if args.out:
        title = f"{names[1]} against {names[0]}: the classes that differ most (videos in brackets)"
        bars = [(one.name, one.videos, one.difference) for one in shown]
        draw_class_differences(bars, names, title, args.out)
        print(f"wrote {args.out}", file=sys.stderr)


def default_names(first: Path, second: Path) -> tuple[str, str]:
    """The last components in which the paths of two reports differ."""
    parts = [[part for part in path.absolute().parts if part != REPORT_FILE][::-1] for path in (first, second)]
    return next(((a, b) for a, b in zip(*parts, strict=False) if a != b), (str(first), str(second)))
