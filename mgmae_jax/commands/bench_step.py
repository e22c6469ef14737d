"""`mgmae bench step`: the pre-training step with tube masks and both kinds of motion guided masks, quickly."""

import argparse
import sys
from collections.abc import Sequence

import jax

from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.report import machine_line
from mgmae_jax.bench.step import NOTES, ROUNDS, matrix_rate, model_flops, numbers, step_times, table
from mgmae_jax.commands.bench_config import PAPER, load_bench_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.files import write_json

EXAMPLE = f"""example:
  mgmae bench step --batch-size 32 64 --json step.json
  mgmae bench step --batch-size 2 --calls 1 --config.model.name=vit_s
  mgmae bench step --compiled v5e:8x8

Without --config, the paper's setting is measured: {PAPER}, in float32 on a CPU. The rows are tube masks, the paper's
motion guided masks and those of mask.preset=fast, whatever the config says of them. Clips are synthetic and parameters
random. All programs are compiled at once and share one process, so that a GPU is needed for under three minutes:
jax, flax, optax, orbax-checkpoint, ml_collections and jaxtyping are all that has to be installed there.

With --compiled nothing is run: the rows are compiled for a TPU slice that need not be there (named as in `mgmae plan`),
and what the programs ask of a chip is read off them: operations, memory moved and held, gathers, and the least time
that these take. It needs libtpu: pip install 'mgmae-jax[plan]'. Compiling takes one to several minutes for each row."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench step`."""
    command = command_parser("bench step", __doc__, EXAMPLE)
    command.add_argument("--config", metavar="NAME", help=f"{CONFIG_HELP}; default: {PAPER}")
    command.add_argument(
        "--batch-size", type=int, nargs="+", action="extend", default=[], metavar="N",
        help="clips a step, over all devices (default 2; with --compiled 24 a chip)",
    )  # fmt: skip
    command.add_argument("--compiled", metavar="SLICE", help="say what the compiled steps cost this TPU slice: v5e:8x8")
    command.add_argument("--calls", type=int, default=5, help=f"steps of each of the {ROUNDS} timed rounds (default 5)")
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench step"."""
    command = parser()
    args, overrides = parse_with_overrides(command, argv)
    if args.calls < 1 or min(args.batch_size, default=1) < 1:
        command.error(f"--calls {args.calls}, --batch-size {' '.join(map(str, args.batch_size))}: give 1 or more")
    if args.json and not args.json.parent.is_dir():
        raise FileError(args.json, "cannot be written: its folder does not exist")
    if args.compiled:
        # Imported here, since what is measured on a GPU for minutes needs none of it.
        from mgmae_jax.commands.bench_compiled import bench_compiled

        config = load_bench_config(args.config, overrides, 1, "tpu")
        bench_compiled(config, args.compiled, args.batch_size, args.json)
        return
    args.batch_size = args.batch_size or [2]
    load_bench_config(args.config, overrides, args.batch_size[0], "cpu")  # report a mistake before anything starts
    check_backend()
    machine = describe_machine()
    config = load_bench_config(args.config, overrides, args.batch_size[0], machine["platform"])
    devices = jax.device_count()
    if wrong := [clips for clips in args.batch_size if clips % devices]:
        raise MgmaeError(f"--batch-size {wrong[0]}: give a multiple of the {devices} devices")
    clip, model = config.clip, config.model
    print(
        f"{machine_line(machine)}\n{model.name} {model.dtype}, attention {model.attention}, RAFT {config.flow.dtype}; "
        f"clips of {clip.frames}x{clip.size}x{clip.size}; {ROUNDS} rounds of {args.calls} steps",
        flush=True,
    )
    rate = matrix_rate(model.dtype)
    flops = model_flops(config, devices)
    print(f"matrix products: {rate / 1e12:.4g} TFLOP/s; model: {flops / 1e9:.4g} GFLOP a clip", flush=True)
    times = []
    for one in step_times(config, args.batch_size, args.calls):
        times.append(one)
        print(f"{one.name}, {one.clips} clips: {one.median * 1000:.4g} ms", file=sys.stderr, flush=True)
    rows = numbers(times, flops, rate, devices)
    print(f"\n{table(rows)}\n\n{NOTES}")
    if args.json:
        content = {"bench": "step", "machine": machine, "config": config.to_dict(), "rows": rows}
        write_json(args.json, content | {"matrix_flop_per_second": rate, "model_flop_per_clip": flops})
