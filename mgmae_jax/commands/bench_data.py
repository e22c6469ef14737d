"""`mgmae bench data`: how fast clips are decoded, cropped and fed to training."""

import argparse
import sys
from collections.abc import Sequence

from mgmae_jax.bench.data import NOTES, cores_for, default_workers, pipeline_rate, rate_table, read_rates
from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.report import machine_line
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option, seconds
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.files import write_json
from mgmae_jax.train.clips import find_clips, flow_spec, frame_cache
from mgmae_jax.train.masks import build_mask_step

STEPS = (0.1, 0.25, 0.5, 1.0)
EXAMPLE = """example:
  mgmae bench data --config pretrain/folder --config.data.path=VIDEOS
  mgmae bench data --config pretrain/ssv2_vit_b --config.data.path=train.csv --workers 0 8 16 --step 0.4

Measures in one process and one thread what it takes to decode a clip and to crop it, beside OpenCV and, where it is
installed, decord; then the whole input pipeline by the number of worker processes, with the flow that the config has
the workers compute or read (config.flow.source) and its cache of frames (config.data.cache). The last lines say how
many cores a training step keeps busy: `mgmae bench pretrain` says how long a step takes. No accelerator is used."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench data`."""
    command = command_parser("bench data", __doc__, EXAMPLE)
    command.add_argument("--config", required=True, metavar="NAME", help=f"{CONFIG_HELP}; one for pre-training")
    command.add_argument(
        "--workers",
        type=int,
        nargs="+",
        action="extend",
        metavar="N",
        help="worker processes to try (default: 0, 1 and all cores)",
    )
    command.add_argument("--seconds", type=seconds, default=5.0, help="how long each row is measured (default 5)")
    command.add_argument("--step", type=seconds, metavar="SECONDS", help="time of a training step to find cores for")
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench data"."""
    command = parser()
    args, overrides = parse_with_overrides(command, argv)
    if any(number < 0 for number in args.workers or ()):
        command.error(f"--workers {' '.join(map(str, args.workers))}: give 0 or more")
    config = load_config(args.config, overrides)
    check_kind(config, "pretrain")
    masks = build_mask_step(config)
    videos = find_clips(config)
    flow, cache = flow_spec(config, masks), frame_cache(config)
    clip, batch_size = ClipSpec(config.clip.frames, config.clip.stride, config.clip.size), config.train.batch_size
    machine = describe_machine()
    print(machine_line(machine))
    print(
        f"{len(videos)} videos; clips of {clip.frames} frames at stride {clip.stride}, {clip.size} pixels", flush=True
    )

    rates = []
    for rate in read_rates(videos, clip, config.seed, args.seconds):
        rates.append(rate)
        print(f"{rate.name}: {rate.clips / rate.seconds:.1f} clips/s", file=sys.stderr, flush=True)
    if not rates[0].clips:
        raise MgmaeError(
            f"{config.data.path or 'motion_shapes'}: none of its videos can be read (see `mgmae pretrain`)"
        )
    pipelines = []
    for workers in args.workers or default_workers():
        rate = pipeline_rate(videos, clip, config.seed, args.seconds, workers, min(batch_size, 8), flow, cache)
        pipelines.append(rate)
        print(f"{rate.name}: {rate.clips / rate.seconds:.1f} clips/s", file=sys.stderr, flush=True)
    rates += pipelines

    steps = STEPS if args.step is None else (args.step,)
    best = max(pipelines, key=lambda rate: rate.clips / rate.core_seconds)
    needed = {step: cores_for(best, batch_size, step) for step in steps}
    shown = ", ".join(f"{cores:.1f} for a step of {step:g} s" for step, cores in needed.items())
    print(f"\n{rate_table(rates)}\n\n{NOTES}\n\ncores that read {batch_size} clips, train.batch_size, in time: {shown}")
    if args.json:
        rows = [rate.numbers() for rate in rates]
        whole = {"bench": "data", "machine": machine, "config": config.to_dict(), "rows": rows}
        write_json(args.json, whole)
