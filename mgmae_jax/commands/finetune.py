"""`mgmae finetune`: train a classifier on labelled videos, from a pre-trained encoder."""

import argparse
import functools
from collections.abc import Sequence

from mgmae_jax.commands.checkpoints import (
    CHECKPOINT_HELP,
    add_weights_options,
    asked_of,
    check_unasked,
    checkpoint_option,
    open_checkpoint,
)
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.options import parse_with_overrides, training_parser
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.distributed import initialize
from mgmae_jax.train.finetune import run_finetuning

EXAMPLE = """examples:
  mgmae finetune --config finetune/motion_shapes --workdir runs/motion_shapes --init runs/demo
  mgmae finetune --config finetune/ssv2_vit_b --workdir runs/mine --init runs/pretrained \\
      --config.data.path=train.csv --config.eval.path=validation.csv
  mgmae finetune --config finetune/ssv2_vit_b --workdir runs/theirs --init mgmae_pretrain.pth \\
      --config.data.path=train.csv --config.eval.path=validation.csv

Change any field of the config with --config.FIELD=VALUE; configs/finetune/common.py lists them. Run the same
command again to resume an interrupted run. Without --init the encoder is trained from scratch."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae finetune`."""
    command = training_parser("finetune", __doc__, EXAMPLE, keeps="checkpoints, metrics and accuracies")
    command.add_argument(
        "--init",
        type=checkpoint_option("--init"),
        metavar="CHECKPOINT",
        help=CHECKPOINT_HELP,
    )
    add_weights_options(command)
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae finetune"."""
    args, overrides = parse_with_overrides(parser(), argv)
    initialize(args.start_timeout)  # first: an error that one process meets ends the others too
    if args.init is not None:
        overrides = [*overrides, f"--config.init={args.init}"]
    config = load_config(args.config, overrides)
    check_kind(config, "finetune")
    asked = asked_of(args)
    if not config.init:
        check_unasked(asked, "--init")
    enable_compilation_cache(config.compile_cache or None)
    open_init = functools.partial(open_checkpoint, asked=asked)
    run_finetuning(config, args.workdir, ["mgmae", "finetune", *argv], args.allow_change, open_init)
