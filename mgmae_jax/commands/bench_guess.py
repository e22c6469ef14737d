"""`mgmae bench guess`: how well hidden cubes can be guessed from the visible ones without a network."""

import argparse
from collections.abc import Sequence

import jax

from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.report import machine_line
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.files import write_json
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.train.baselines import guess_table, measure_guesses
from mgmae_jax.train.clips import find_clips
from mgmae_jax.train.pretrain import build_pretraining

EXAMPLE = """example:
  mgmae bench guess --config demo
  mgmae bench guess --config pretrain/folder --config.data.path=VIDEOS --config.mask.ratio=0.75

What a pre-training loss has to beat on your videos, with your grid, masks and target: at least 256 clips are masked as
in the first steps of the run. If no copy or mean beats the mean cube, layout has to be learned from shape and
motion; if the cube's own mean colour leaves nearly all of the error, there is only texture to learn."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench guess`."""
    command = command_parser("bench guess", __doc__, EXAMPLE)
    command.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench guess"."""
    args, overrides = parse_with_overrides(parser(), argv)
    config = load_config(args.config, overrides)
    check_kind(config, "pretrain")
    check_backend()
    enable_compilation_cache(config.compile_cache or None)
    videos = find_clips(config)
    pretraining = build_pretraining(config, len(videos))
    flow_params = load_flow_params(config.flow.weights) if pretraining.masks.runs_raft else {}
    key, mesh = jax.random.key(config.seed), make_mesh(config.mesh.fsdp)
    errors = measure_guesses(config, pretraining, videos, None, flow_params, key, mesh, 0)
    grid, mask, machine = pretraining.grid, pretraining.masks.mask, describe_machine()
    print(machine_line(machine))
    print(
        f"{len(videos)} videos; {grid.tubelets}x{grid.rows}x{grid.columns} tokens, {mask.strategy} masks of ratio "
        f"{mask.ratio:g}, target {config.loss.target}"
    )
    print(guess_table(errors))
    if args.json:
        write_json(args.json, {"bench": "guess", "machine": machine, "config": config.to_dict(), "errors": errors})
