"""`mgmae bench overfit`: how far a config's loss falls on one batch, which shows whether it can learn at all."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.report import machine_line, markdown_table
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.files import write_json
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.train.clips import batch_spec, find_clips, open_clips
from mgmae_jax.train.optim import scaled_rate
from mgmae_jax.train.pretrain import Batch, build_pretraining
from mgmae_jax.train.state import TrainState, apply_update

EXAMPLE = """example:
  mgmae bench overfit --config demo --steps 400
  mgmae bench overfit --config demo --same-masks --config.optim.name=adamw --config.optim.lr=0.064

The batch is the first of the run, config.train.batch_size x config.data.views clips, at the peak of the learning rate
after 20 steps of warm-up. If the loss does not fall far here with fixed masks, there is a fault in model, optimiser or
data; if it falls here but not in a run, the run lacks data, time, or something to guess (`mgmae bench guess`)."""
_WARMUP, _ROWS = 20, 8


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench overfit`."""
    command = command_parser("bench overfit", __doc__, EXAMPLE)
    command.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    command.add_argument("--steps", type=int, default=400, help="updates on the batch (default 400)")
    command.add_argument("--same-masks", action="store_true", help="hold the masks fixed instead of drawing new ones")
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench overfit"."""
    command = parser()
    args, overrides = parse_with_overrides(command, argv)
    if args.steps < _ROWS:
        command.error(f"--steps {args.steps}: give {_ROWS} or more")
    config = load_config(args.config, overrides)
    check_kind(config, "pretrain")
    check_backend()
    enable_compilation_cache(config.compile_cache or None)
    videos = find_clips(config)
    pretraining = build_pretraining(config, len(videos))
    flow_params = load_flow_params(config.flow.weights) if pretraining.masks.runs_raft else {}
    mesh = make_mesh(devices=jax.devices()[:1])
    spec = dataclasses.replace(batch_spec(config, mesh), workers=0)
    with open_clips(config, pretraining.masks, videos, 0, lambda path, reason: None, spec) as batches:
        batch = next(batches)
    rate = scaled_rate(config.optim.lr, config.train.batch_size)

    def step(
        state: TrainState, flow_params: Mapping[str, Any], batch: Batch, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        masks = stream(key, 0 if args.same_masks else state.step, "mask")
        keys = per_example(masks, 0, batch["clip"].shape[0])
        shared = pretraining.masks.share_flow(flow_params, batch)
        loss, grads = jax.value_and_grad(pretraining.loss)(state.params, (shared, keys), flow_params)
        warming = jnp.minimum((state.step + 1).astype(jnp.float32) / _WARMUP, 1.0)
        return apply_update(state, pretraining.optimiser, loss, grads, rate * warming)

    key = jax.random.key(config.seed)
    state = jax.jit(pretraining.init)(stream(key, 0, "init"))
    jitted, losses = jax.jit(step), []
    for _ in range(args.steps):
        state, metrics = jitted(state, flow_params, batch, key)
        losses.append(metrics["loss"])
    losses = [float(loss) for loss in losses]
    machine, window = describe_machine(), args.steps // _ROWS
    print(machine_line(machine))
    masks = "the same masks" if args.same_masks else "new masks at every step"
    print(f"{len(batch['clip'])} clips, {masks}, {config.optim.name} at {rate:g}, target {config.loss.target}\n")
    rows = [("steps", "loss", "of the first"), ("1", f"{losses[0]:.3f}", "100%")]
    for end in range(window, args.steps + 1, window):
        first = end - max(window // 2, 1)
        mean = float(np.mean(losses[first:end]))
        rows.append((f"{first + 1} to {end}", f"{mean:.3f}", f"{mean / losses[0]:.0%}"))
    print(markdown_table(rows))
    if args.json:
        write_json(args.json, {"bench": "overfit", "machine": machine, "config": config.to_dict(), "losses": losses})
