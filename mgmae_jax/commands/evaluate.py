"""`mgmae evaluate`: multi-view accuracy of a fine-tuned checkpoint."""

import argparse
from collections.abc import Sequence

from mgmae_jax.commands.checkpoints import (
    CHECKPOINT_HELP,
    add_weights_options,
    asked_of,
    checkpoint_option,
    model_config,
    open_checkpoint,
    results_folder,
    with_eps,
)
from mgmae_jax.commands.config_file import check_flags, load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import add_start_timeout, command_parser, parse_with_overrides, path_option
from mgmae_jax.evaluate.classes import read_classes
from mgmae_jax.evaluate.report import Report
from mgmae_jax.evaluate.run import run_evaluation
from mgmae_jax.runtime.checkpoint import find_checkpoint
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.distributed import initialize, is_primary
from mgmae_jax.runtime.weights import Weights
from mgmae_jax.show.confusion import draw_confusion

EXAMPLE = """examples:
  mgmae evaluate --checkpoint runs/finetuned
  mgmae evaluate --checkpoint runs/finetuned --config.eval.path=test.csv --out test \\
      --config.eval.sampling=dense --config.eval.clips=5 --config.eval.crops=3
  mgmae evaluate --checkpoint videomae_finetune.pth --config.eval.path=test.csv

The run's own config is used; change fields with --config.FIELD=VALUE. If the run keeps an average of its
weights (train.ema_decay), the average is evaluated, unless --config.eval.weights=raw. Run the same command again to
resume an interrupted evaluation. Videos without labels get predictions only."""
_OUT_HELP = "default: WORKDIR/evaluation/STEP; for a model NAME of another program, runs/NAME/evaluation"


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae evaluate`."""
    command = command_parser("evaluate", __doc__, EXAMPLE)
    command.add_argument(
        "--checkpoint",
        required=True,
        type=checkpoint_option("--checkpoint"),
        help=f"{CHECKPOINT_HELP}: a classifier",
    )
    command.add_argument("--config", metavar="NAME", help=f"{CONFIG_HELP}; default: the run's own config")
    command.add_argument("--out", type=path_option("--out"), metavar="DIR", help=_OUT_HELP)
    add_weights_options(command)
    add_start_timeout(command)
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae evaluate"."""
    args, overrides = parse_with_overrides(parser(), argv)
    initialize(args.start_timeout)  # first: an error that one process meets ends the others too
    check_flags(overrides)
    checkpoint = open_checkpoint(args.checkpoint, asked_of(args))
    read_classes(checkpoint)  # the config of a pre-trained checkpoint says nothing about evaluation
    if args.config:
        config = with_eps(load_config(args.config, overrides), checkpoint)
    else:
        config = model_config(checkpoint, overrides)
    step = "" if isinstance(checkpoint, Weights) else find_checkpoint(checkpoint).name
    out = args.out or results_folder(checkpoint) / "evaluation" / step
    enable_compilation_cache(config.compile_cache or None)
    report = run_evaluation(config, checkpoint, out, draw_confusion, ["mgmae", "evaluate", *argv])
    if is_primary():
        matrix = ", confusion.csv, confusion.png" if isinstance(report, Report) else ""
        print(f"{report.summary()}\nin {out}: report.json, predictions.csv{matrix}")
