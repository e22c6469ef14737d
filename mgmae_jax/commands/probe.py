"""`mgmae probe`: how well the features of a frozen encoder separate the classes."""

import argparse
from collections.abc import Sequence

from mgmae_jax.commands.checkpoints import (
    CHECKPOINT_HELP,
    add_weights_options,
    asked_of,
    checkpoint_option,
    open_checkpoint,
    results_folder,
)
from mgmae_jax.commands.config_file import load_config, load_run_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import add_start_timeout, command_parser, parse_with_overrides, path_option
from mgmae_jax.probe.run import run_probe
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.distributed import initialize, is_primary
from mgmae_jax.show.confusion import draw_confusion

EXAMPLE = """examples:
  mgmae probe --checkpoint runs/demo --config probe/motion_shapes
  mgmae probe --checkpoint runs/mine --config.data.path=train.csv --config.eval.path=test.csv \\
      --config.probe.kind=attentive

Kinds: linear, attentive, knn. --config.probe.encoder=random probes the same network before training. The checkpoint
may be of a pre-training or a fine-tuning run. Features are extracted once, so another probe on the same videos starts
at once. Change any field of the config with --config.FIELD=VALUE; configs/probe/common.py lists them."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae probe`."""
    command = command_parser("probe", __doc__, EXAMPLE)
    command.add_argument("--checkpoint", required=True, type=checkpoint_option("--checkpoint"), help=CHECKPOINT_HELP)
    command.add_argument(
        "--config", default="probe/common", metavar="NAME", help=f"{CONFIG_HELP}; default: probe/common"
    )
    command.add_argument(
        "--out",
        type=path_option("--out"),
        metavar="DIR",
        help="folder for the report; default: WORKDIR/probe/KIND (KIND_random)",
    )
    command.add_argument(
        "--features",
        type=path_option("--features"),
        metavar="DIR",
        help="folder for features; default: WORKDIR/features",
    )
    add_weights_options(command)
    add_start_timeout(command)
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae probe"."""
    args, overrides = parse_with_overrides(parser(), argv)
    initialize(args.start_timeout)  # first: an error that one process meets ends the others too
    config = load_config(args.config, overrides)
    check_kind(config, "probe")
    checkpoint = open_checkpoint(args.checkpoint, asked_of(args))
    run_config = load_run_config(checkpoint)
    workdir = results_folder(checkpoint)
    name = config.probe.kind + ("" if config.probe.encoder == "trained" else f"_{config.probe.encoder}")
    out = args.out or workdir / "probe" / name
    cache = args.features or workdir / "features"
    enable_compilation_cache(config.compile_cache or None)
    report = run_probe(config, run_config, checkpoint, out, cache, draw_confusion, ["mgmae", "probe", *argv])
    if is_primary():
        print(f"{report.summary()}\nin {out}: report.json, predictions.csv, confusion.csv, confusion.png")
