"""`mgmae bench`: measure the masking step, the whole pre-training step, or optical flow on this machine."""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mgmae_jax.bench import report
from mgmae_jax.bench.fresh_process import in_fresh_process
from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.masking import SHOWN, Sweep, masking_cases
from mgmae_jax.bench.measure import Measurement
from mgmae_jax.bench.pretrain import pretrain_cases
from mgmae_jax.commands.bench_config import PAPER, load_bench_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option
from mgmae_jax.commands.output_files import check_plot
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.masking.strategies import STRATEGIES
from mgmae_jax.runtime.files import write_json

OTHER_BENCHES = ("step", "data", "flow", "agreement", "guess", "overfit", "leakage")
"""Those with a command of their own. It is imported where it runs: the others need no video reader."""
EXAMPLE = f"""example:
  mgmae bench masking
  mgmae bench masking --batch-size 8 32 --flow-size 96 112 128 --flow-iters 3 4 --plot cost.png
  mgmae bench masking --strategies random frame
  mgmae bench pretrain --official MGMAE
  mgmae bench pretrain --batch-size 4 --repeats 50 --json bench.json --config.model.name=vit_s

Without --config, the paper's setting is measured: {PAPER}, in float32 on a CPU. Change fields with
--config.FIELD=VALUE. Clips are synthetic, and the model's parameters random. Each row of the table is measured in a
process of its own, at all batches; the steps are measured in turn, in one process.

MGMAE is a checkout of the official PyTorch program (or with `pretrain` of VideoMAE's), which is measured as well: by
its own code, on as many threads. It needs torch, timm and einops.

`mgmae bench step --help`: the step with tube and motion guided masks by batch, quickly, beside the matrix unit's rate.
`mgmae bench data --help`: clips a second that are decoded, cropped and fed to training.
`mgmae bench flow --help`: end-point error and time of flow on pairs with known true flow.
`mgmae bench agreement --help`: how far the masks of two flows agree on your videos.
`mgmae bench guess --help`: how well the hidden cubes can be guessed without a network.
`mgmae bench overfit --help`: how far the loss falls on one batch.
`mgmae bench leakage --help`: how much of what a mask hides can be seen elsewhere in the clip."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench`."""
    command = command_parser("bench", __doc__, EXAMPLE)
    command.add_argument("what", choices=["masking", "pretrain", *OTHER_BENCHES], help="what to measure")
    command.add_argument("--config", metavar="NAME", help=f"{CONFIG_HELP}; default: {PAPER}")
    command.add_argument(
        "--batch-size", type=int, nargs="+", action="extend", metavar="N",
        help="clips per call, over all devices (default 2); masking: one or more numbers",
    )  # fmt: skip
    command.add_argument("--repeats", type=int, default=20, help="timed calls (default 20)")
    command.add_argument(
        "--strategies", nargs="+", action="extend", choices=list(STRATEGIES), metavar="NAME",
        help=f"masking: of {', '.join(STRATEGIES)} (default {' '.join(SHOWN)}); tube is always measured",
    )  # fmt: skip
    for option, field in (("--flow-size", "size"), ("--flow-iters", "iters")):
        command.add_argument(
            option, type=int, nargs="+", action="extend", default=[], metavar="N",
            help=f"masking: also measure the fast masks with each of these flow.{field}",
        )  # fmt: skip
    command.add_argument(
        "--official", type=path_option("--official"), metavar="FOLDER",
        help="also measure the official PyTorch program of which this is a checkout",
    )  # fmt: skip
    command.add_argument(
        "--plot", type=path_option("--plot"), metavar="FILE",
        help="masking: draw cost against agreement with the paper's masks (.png, .svg or .pdf)",
    )  # fmt: skip
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench"."""
    if argv and argv[0] in OTHER_BENCHES:
        importlib.import_module(f"mgmae_jax.commands.bench_{argv[0]}").main(argv[1:])
        return
    command = parser()
    args, overrides = parse_with_overrides(command, argv)
    args.batch_size = args.batch_size or [2]
    _check(command, args)
    batches = sorted(set(args.batch_size))
    load_bench_config(args.config, overrides, batches[0], "cpu")  # report a mistake before anything starts

    machine = in_fresh_process(describe_machine)
    config = load_bench_config(args.config, overrides, batches[0], machine["platform"])
    if wrong := [clips for clips in batches if clips % machine["devices"]]:
        raise MgmaeError(f"--batch-size {wrong[0]}: give a multiple of the {machine['devices']} devices")
    if args.what == "pretrain":
        cases = pretrain_cases(config, args.official)
    else:
        sizes, updates = tuple(args.flow_size), tuple(args.flow_iters)
        sweep = Sweep(tuple(batches), tuple(args.strategies or SHOWN), sizes, updates, args.official)
        cases = masking_cases(config, sweep, _flow_params(config))
    print(report.heading(machine, config, batches, args.repeats), flush=True)
    measurements: list[Measurement] = []
    for case in cases:
        for one in in_fresh_process(case, args.repeats):
            measurements.append(one)
            print(
                f"{one.name}, {one.clips} clips: {one.median / one.clips * 1000:.4g} ms a clip",
                file=sys.stderr,
                flush=True,
            )
    numbers = report.rows(measurements)
    print(f"\n{report.table(numbers)}\n\n{report.NOTES}")
    if args.json:
        whole = {"bench": args.what, "machine": machine, "config": config.to_dict(), "rows": numbers}
        write_json(args.json, whole)
    if args.plot:
        from mgmae_jax.show.cost import CostPoint, draw_cost  # need Matplotlib

        points = {name: [CostPoint(*one) for one in own] for name, own in report.cost_points(numbers).items()}
        draw_cost(points, report.PAPER, args.plot)


def _check(command: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program if options do not go together.

    Raises:
      FileError: a file cannot be written, or a plot not as what its name says.
    """
    if args.what in OTHER_BENCHES:
        command.error(f"give {args.what} first: mgmae bench {args.what} ...")
    if args.repeats < 1 or min(args.batch_size) < 1:
        command.error(f"--repeats {args.repeats}, --batch-size {' '.join(map(str, args.batch_size))}: give 1 or more")
    if args.what == "pretrain":
        if args.flow_size or args.flow_iters or args.plot or args.strategies:
            command.error("--strategies, --flow-size, --flow-iters and --plot: only with masking")
        if len(args.batch_size) > 1:
            command.error("--batch-size: give one number with pretrain, or run `mgmae bench step`")
    if args.plot:
        check_plot(args.plot)
    for file in filter(None, (args.json, args.plot)):
        if not file.parent.is_dir():
            raise FileError(file, "cannot be written: its folder does not exist")


def _flow_params(config: ConfigDict) -> Mapping[str, Any] | None:
    """RAFT's parameters, as the config has them; None, with a note, on a machine without safetensors."""
    if config.flow.source != "raft":
        return None
    try:
        from mgmae_jax.interop.flow_weights import load_flow_params
    except ModuleNotFoundError as error:
        print(f"RAFT's parameters are random and no masks are compared: {error}", file=sys.stderr)
        return None
    return load_flow_params(config.flow.weights)
