"""`mgmae bench flow`: end-point error, outliers and time of optical flow on pairs with known true flow."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mgmae_jax.bench.flow import score_pair
from mgmae_jax.bench.flow_methods import CLASSICAL, Method, classical_method, raft_method
from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.report import machine_line, markdown_table
from mgmae_jax.commands.file_names import as_word, short_names
from mgmae_jax.commands.options import command_parser, path_option
from mgmae_jax.data.flow_files import find_pairs
from mgmae_jax.flow.metrics import THRESHOLDS
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.files import write_json
from mgmae_jax.runtime.paths import local_text

EXAMPLE = f"""example:
  mgmae bench flow PAIRS
  mgmae bench flow PAIRS --methods bundled raft-small.pth tvl1 dis --json flow.json

PAIRS is a folder: each pair in a folder of its own (two images and a .flo file), or the layouts of FlyingChairs, Sintel
or KITTI. A method is a file of RAFT-small's weights, `bundled` (those of the package), or one of
{", ".join(CLASSICAL)}."""
BUNDLED = "bundled"
"""The method of the package's own weights."""
_COLUMNS = (("epe", "EPE px"), *((f"over_{pixels}px", f"> {pixels} px") for pixels in THRESHOLDS), ("ms", "ms"))


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench flow`."""
    command = command_parser("bench flow", __doc__, EXAMPLE)
    command.add_argument(
        "pairs", metavar="PAIRS", type=path_option("PAIRS"), help="a folder of frame pairs with true flow"
    )
    command.add_argument("--methods", nargs="+", action="extend", metavar="METHOD", help=f"default: {BUNDLED}")
    command.add_argument("--iters", type=int, default=12, help="RAFT's updates (default 12)")
    command.add_argument("--repeats", type=int, default=5, help="timed calls per pair (default 5)")
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench flow"."""
    command = parser()
    args = command.parse_args(argv)
    if args.iters < 1 or args.repeats < 1:
        command.error(f"--iters {args.iters}, --repeats {args.repeats}: give 1 or more")
    check_backend()
    methods = {name: find_method(name, args.iters) for name in args.methods or [BUNDLED]}
    names = method_names(methods)
    pairs = find_pairs(args.pairs)
    enable_compilation_cache()
    machine = describe_machine()
    rows = []
    for pair in pairs:
        content = pair.read()
        size = "x".join(map(str, content["flow"].shape[1::-1]))
        for name, method in methods.items():
            rows.append({"pair": pair.name, "size": size, "method": name} | score_pair(method, content, args.repeats))
    for name in methods:
        own = [row for row in rows if row["method"] == name]
        mean = {key: float(np.mean([row[key] for row in own])) for key, _ in _COLUMNS}
        rows.append({"pair": "mean", "size": "", "method": name} | mean)
    print(
        f"{machine_line(machine)}\nRAFT: {args.iters} updates; median of {args.repeats} calls\n\n{table(rows, names)}"
    )
    if args.json:
        write_json(args.json, {"bench": "flow", "machine": machine, "iters": args.iters, "rows": rows})


def find_method(name: str, iters: int, **options: Any) -> Method:
    """The flow method that a word of the command line names; `options` are those of RAFT, see `raft_method`.

    Raises:
      WeightsError: it is a file without RAFT-small's weights.
      MgmaeError: the method is unknown, or a path that cannot be used.
    """
    if name == BUNDLED or _is_file(name):
        return raft_method(load_flow_params(local_text(name, "METHOD")), iters, **options)
    return classical_method(name)


def method_names(methods: Iterable[str]) -> dict[str, str]:
    """The names of methods for tables and file names: for a file see `short_names`; then the fields that differ.

    Raises:
      MgmaeError: a file is given twice.
    """
    words = {method: method.split(",") for method in methods}
    given = dict.fromkeys(name for name, *_ in words.values())
    files = short_names(filter(_is_file, given), "METHOD", [name for name in given if not _is_file(name)])
    return {method: as_word("-".join([files.get(name, name), *fields])) for method, (name, *fields) in words.items()}


def _is_file(name: str) -> bool:
    return "." in name or "/" in name


def table(rows: Sequence[dict[str, Any]], names: Mapping[str, str]) -> str:
    """The rows as a Markdown table, with the short names of the methods."""
    lines = [("pair", "size", "method", *(head for _, head in _COLUMNS))]
    for row in rows:
        shares = [f"{row[f'over_{pixels}px']:.1%}" for pixels in THRESHOLDS]
        lines.append((row["pair"], row["size"], names[row["method"]], f"{row['epe']:.3f}", *shares, f"{row['ms']:.4g}"))
    return markdown_table(lines)
