"""`mgmae bench`: measure the masking step, the whole pre-training step, or optical flow on this machine."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from mgmae_jax.bench import report
from mgmae_jax.bench.fresh_process import in_fresh_process
from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.masking import Case, masking_cases
from mgmae_jax.bench.measure import Measurement
from mgmae_jax.bench.pretrain import pretrain_cases
from mgmae_jax.commands.bench_config import PAPER, load_bench_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, path_option
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.files import write_json

OTHER_BENCHES = ("step", "data", "flow", "agreement", "guess", "overfit")
"""Those with a command of their own. It is imported where it runs: the others need no video reader."""
CASES: dict[str, Callable[..., list[Case]]] = {"masking": masking_cases, "pretrain": pretrain_cases}
EXAMPLE = f"""example:
  mgmae bench masking
  mgmae bench masking --flow-size 96 112 128 --flow-iters 3 4
  mgmae bench pretrain --batch-size 4 --repeats 50 --json bench.json --config.model.name=vit_s

Without --config, the paper's setting is measured: {PAPER}, in float32 on a CPU. Change fields with
--config.FIELD=VALUE. Clips are synthetic, parameters are random, and each row of the table is measured in a process of
its own.

`mgmae bench step --help`: the step with tube and motion guided masks by batch, quickly, beside the matrix unit's rate.
`mgmae bench data --help`: clips a second that are decoded, cropped and fed to training.
`mgmae bench flow --help`: end-point error and time of flow on pairs with known true flow.
`mgmae bench agreement --help`: how far the masks of two flows agree on your videos.
`mgmae bench guess --help`: how well the hidden cubes can be guessed without a network.
`mgmae bench overfit --help`: how far the loss falls on one batch."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench`."""
    command = command_parser("bench", __doc__, EXAMPLE)
    command.add_argument("what", choices=[*CASES, *OTHER_BENCHES], help="what to measure")
    command.add_argument("--config", metavar="NAME", help=f"{CONFIG_HELP}; default: {PAPER}")
    command.add_argument("--batch-size", type=int, default=2, help="clips per call, over all devices (default 2)")
    command.add_argument("--repeats", type=int, default=20, help="timed calls (default 20)")
    for option, field in (("--flow-size", "size"), ("--flow-iters", "iters")):
        command.add_argument(
            option, type=int, nargs="+", default=[], metavar="N",
            help=f"masking: also measure the fast masks with each of these flow.{field}",
        )  # fmt: skip
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench"."""
    if argv and argv[0] in OTHER_BENCHES:
        importlib.import_module(f"mgmae_jax.commands.bench_{argv[0]}").main(argv[1:])
        return
    command = parser()
    args, overrides = command.parse_known_args(argv)
    if args.repeats < 1 or args.batch_size < 1:
        command.error(f"--repeats {args.repeats}, --batch-size {args.batch_size}: give 1 or more")
    sweep = {"sizes": args.flow_size, "updates": args.flow_iters} if args.flow_size or args.flow_iters else {}
    if sweep and args.what != "masking":
        command.error(f"--flow-size and --flow-iters: not with {args.what}; use them with masking")
    if args.json and not args.json.parent.is_dir():
        raise FileError(args.json, "cannot be written: its folder does not exist")
    load_bench_config(args.config, overrides, args.batch_size, "cpu")  # report a mistake before anything starts

    machine = in_fresh_process(describe_machine)
    config = load_bench_config(args.config, overrides, args.batch_size, machine["platform"])
    if args.batch_size % machine["devices"]:
        raise MgmaeError(f"--batch-size {args.batch_size}: give a multiple of the {machine['devices']} devices")
    print(report.heading(machine, config, args.repeats), flush=True)
    measurements: list[Measurement] = []
    for case in CASES[args.what](config, **sweep):
        measurements.append(in_fresh_process(case, args.repeats))
        last = measurements[-1]
        print(f"{last.name}: {last.median / last.clips * 1000:.4g} ms a clip", file=sys.stderr, flush=True)
    numbers = report.rows(measurements)
    print(f"\n{report.table(numbers)}\n\n{report.NOTES}")
    if args.json:
        whole = {"bench": args.what, "machine": machine, "config": config.to_dict(), "rows": numbers}
        write_json(args.json, whole)
