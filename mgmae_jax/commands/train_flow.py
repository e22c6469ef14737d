"""`mgmae train-flow`: train RAFT-small on procedural motion, for flow inside the pre-training step."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.options import parse_with_overrides, training_parser
from mgmae_jax.data.flow_files import find_pairs
from mgmae_jax.interop.flow_weights import load_flow_weights, save_flow_weights
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.distributed import initialize
from mgmae_jax.train.flow import run_flow_training

BEST = "best.safetensors"
EXAMPLE = """example:
  mgmae train-flow --config flow/raft_small_cpu --workdir runs/flow
  mgmae bench flow PAIRS --methods bundled runs/flow/best.safetensors
  mgmae pretrain --config demo --workdir runs/demo --config.flow.weights=runs/flow/best.safetensors

WORKDIR/best.safetensors holds the averaged weights with the lowest error on held-out synthetic pairs, in half
precision. Run the same command again to resume an interrupted run. flow/raft_small is the recipe for a GPU."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae train-flow`."""
    return training_parser("train-flow", __doc__, EXAMPLE, keeps="checkpoints, metrics and weights")


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae train-flow"."""
    args, overrides = parse_with_overrides(parser(), argv)
    initialize(args.start_timeout)  # first: an error that one process meets ends the others too
    config = load_config(args.config, overrides)
    check_kind(config, "flow")
    enable_compilation_cache(config.compile_cache or None)
    start = load_flow_weights(config.init) if config.init else None

    def keep_best(params: Mapping[str, Any], scores: dict[str, float], step: int) -> None:
        save_flow_weights(args.workdir / BEST, params, np.float16)
        print(f"wrote {args.workdir / BEST} (step {step})", file=sys.stderr, flush=True)

    folder = config.validate.folder
    real_pairs = {pair.name: pair.read() for pair in find_pairs(folder)} if folder else {}
    command = ["mgmae", "train-flow", *argv]
    run_flow_training(config, args.workdir, start, keep_best, real_pairs, command, args.allow_change)
