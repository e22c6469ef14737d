"""`mgmae bench leakage`: how much of what a mask hides can be seen elsewhere in the clip."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from mgmae_jax.bench.leakage import SETS, TRUE, measure_leakage, ways
from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.report import machine_line, markdown_table
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.masking.strategies import STRATEGIES
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.files import write_json

_SHOWN = ("motion", "tube", "random", "frame")
EXAMPLE = """example:
  mgmae bench leakage
  mgmae bench leakage --config demo --strategies motion tube random --videos 64 --json leakage.json

Procedural videos are masked: their layers say where each hidden point is in every other frame. "moving" is the middle
of each video, "still" one frame of it, repeated. Strategies that need flow have a row with the true flow and one with
that of config.flow.source; those that learn are measured untrained.

seen elsewhere: hidden points that are visible in another frame. beyond tube: that minus what tube masks leak of the
same clip. along motion: share of the hidden points' variance that is explained by copying them from where they are
visible. nearby: the same of the nearest visible cube, negative if the mean colour is better. After each its standard
error over the videos."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench leakage`."""
    command = command_parser("bench leakage", __doc__, EXAMPLE)
    command.add_argument(
        "--config", default="pretrain/common", metavar="NAME", help=f"{CONFIG_HELP}; default: pretrain/common"
    )
    command.add_argument(
        "--strategies", nargs="+", action="extend", choices=list(STRATEGIES), metavar="NAME",
        help=f"of {', '.join(STRATEGIES)}; default: {' '.join(_SHOWN)}",
    )  # fmt: skip
    command.add_argument("--videos", type=int, default=32, metavar="N", help="2 or more; default: 32")
    command.add_argument("--masks", type=int, default=2, metavar="N", help="random masks of each clip; default: 2")
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench leakage"."""
    command = parser()
    args, overrides = parse_with_overrides(command, argv)
    if args.videos < 2 or args.masks < 1:
        command.error(f"--videos {args.videos}, --masks {args.masks}: give 2 or more videos, 1 or more masks")
    config = load_config(args.config, overrides)
    check_kind(config, "pretrain")
    check_backend()
    enable_compilation_cache(config.compile_cache or None)
    strategies = args.strategies or list(_SHOWN)
    raft = any(way.step.runs_raft for way in ways(config, strategies))
    flow_params = load_flow_params(config.flow.weights) if raft else {}
    rows = measure_leakage(config, strategies, flow_params, args.videos, args.masks)
    machine, clip = describe_machine(), config.clip
    print(
        f"{machine_line(machine)}\n{args.videos} procedural videos, {args.masks} masks each: {clip.frames} frames of "
        f"{clip.size}x{clip.size}, {clip.stride} apart, patches of {config.model.patch}, mask ratio "
        f"{config.mask.ratio:g}\n"
    )
    for kind in SETS:
        print(f"{table(kind, rows)}\n")
    print("\n".join(findings(rows)))
    if args.json:
        content = {"bench": "leakage", "machine": machine, "config": config.to_dict(), "rows": rows}
        write_json(args.json, content | {"videos": args.videos, "masks": args.masks})


def table(kind: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of a set as a Markdown table, in percent with standard errors."""
    columns = {
        "seen": "seen elsewhere", "seen_beyond_tube": "beyond tube", "along_motion": "along motion", "nearby": "nearby",
    }  # fmt: skip
    shown = [name for name in columns if name in rows[0]]
    lines = [(f"{kind} clips, %", *(columns[name] for name in shown))]
    for row in rows:
        if row["set"] == kind:
            lines.append((row["name"], *(_percent(row[name]) for name in shown)))
    return markdown_table(lines)


def findings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether motion guided masks leak less than tube masks, in words, for each set; nothing if either is missing."""
    said = []
    for row in rows:
        if row["name"] == f"motion, {TRUE}" and "seen_beyond_tube" in row:
            gap, error = (100 * row["seen_beyond_tube"][name] for name in ("mean", "error"))
            apart = "less than" if gap < -2 * error else "more than" if gap > 2 * error else "as much as"
            said.append(
                f"{row['set']} clips: motion guided masks by the true flow leak {apart} tube masks ({gap:+.1f} points "
                f"of the hidden ones, standard error {error:.1f})"
            )
    return said


def _percent(number: Mapping[str, float]) -> str:
    return f"{100 * number['mean']:.1f} ± {100 * number['error']:.1f}"
