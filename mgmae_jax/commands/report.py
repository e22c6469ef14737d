"""`mgmae report`: runs as a page in one file, with curves, previews, configs, evaluations and machines."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mgmae_jax.commands import report_compare
from mgmae_jax.commands.options import command_parser, path_option
from mgmae_jax.commands.run_files import read_run, run_names
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.files import write_text
from mgmae_jax.show.curves import draw_curves
from mgmae_jax.show.line_chart import MOST_LINES
from mgmae_jax.show.page import check_page_path
from mgmae_jax.show.run_report import report_page

EXAMPLE = """examples:
  mgmae report runs/demo
  mgmae report runs/motion runs/tube --names motion tube --out both.html --png

The page is one file that opens from disk, without a server and without a request; it can be sent, printed, and read on
a phone. A run may still be going.

`mgmae report compare --help`: two evaluations side by side, class by class."""
_PREVIEWS = 4
COMPARE = "compare"


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae report`."""
    command = command_parser("report", __doc__, EXAMPLE)
    command.add_argument(
        "workdirs", metavar="WORKDIR", nargs="+", type=path_option("WORKDIR"),
        help=f"the folder of a run, of any command that trains; up to {MOST_LINES}",
    )  # fmt: skip
    command.add_argument(
        "--out", type=path_option("--out"), default=Path("report.html"), metavar="FILE",
        help="the page, .html; default: report.html",
    )  # fmt: skip
    command.add_argument(
        "--names",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="what to call the runs; default: their folders' names",
    )
    command.add_argument(
        "--previews", type=int, default=_PREVIEWS, metavar="N",
        help=f"pictures of each run, evenly spaced, the first and last among them (default {_PREVIEWS}); 0 for none",
    )  # fmt: skip
    command.add_argument("--png", action="store_true", help="write each run's curves beside the page, as .png")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae report"."""
    if argv and argv[0] == COMPARE:
        report_compare.main(argv[1:])
        return
    command = parser()
    args = command.parse_args(argv)
    check_page_path(args.out)
    if args.previews < 0:
        command.error(f"--previews {args.previews}: give 0 or more")
    if len(args.workdirs) > MOST_LINES:
        raise MgmaeError(f"WORKDIR: {len(args.workdirs)} runs are too many to tell apart: give at most {MOST_LINES}")
    if args.names and len(args.names) != len(args.workdirs):
        raise MgmaeError(f"--names: {len(args.names)} names for {len(args.workdirs)} runs: give one for each")
    names = args.names or run_names(args.workdirs)
    runs = [read_run(workdir, name, args.previews) for workdir, name in zip(args.workdirs, names, strict=True)]
    write_text(args.out, report_page(runs))
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)", file=sys.stderr)
    if args.png:
        for number, run in enumerate(runs, start=1):
            path = args.out.with_name(f"{args.out.stem}_curves{number if len(runs) > 1 else ''}.png")
            draw_curves(run.metrics, path)
            print(f"wrote {path}", file=sys.stderr)
