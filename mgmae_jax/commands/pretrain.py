"""`mgmae pretrain`: pre-train a masked autoencoder on videos."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.options import parse_with_overrides, training_parser
from mgmae_jax.commands.pictures import masked_clip
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.distributed import initialize
from mgmae_jax.runtime.metrics import METRICS_FILE, read_metrics
from mgmae_jax.show.curves import draw_curves
from mgmae_jax.show.strip import motion_strip
from mgmae_jax.show.video_out import write_png
from mgmae_jax.train.masks import MaskDetails, build_mask_step
from mgmae_jax.train.pretrain import Pretraining, run_pretraining
from mgmae_jax.train.previews import Draw

EXAMPLE = """example:
  mgmae pretrain --config demo --workdir runs/demo
  mgmae pretrain --config pretrain/folder --workdir runs/mine \\
      --config.data.path=VIDEOS --config.flow.source=tvl1

Change any field of the config with --config.FIELD=VALUE; configs/pretrain/common.py lists them. Run the same
command again to resume an interrupted run. With several processes, see launch/."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae pretrain`."""
    return training_parser("pretrain", __doc__, EXAMPLE, keeps="checkpoints, metrics and pictures")


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae pretrain"."""
    args, overrides = parse_with_overrides(parser(), argv)
    initialize(args.start_timeout)  # first: an error that one process meets ends the others too
    config = load_config(args.config, overrides)
    check_kind(config, "pretrain")
    enable_compilation_cache(config.compile_cache or None)
    flow_params = load_flow_params(config.flow.weights) if build_mask_step(config).runs_raft else {}
    draw = draw_previews(args.workdir)
    run_pretraining(config, args.workdir, flow_params, draw, ["mgmae", "pretrain", *argv], args.allow_change)


def draw_previews(workdir: Path) -> Draw:
    """Writes WORKDIR/previews/STEP.png, and WORKDIR/curves.png from the metrics so far."""

    def draw(
        pretraining: Pretraining,
        done: int,
        clip: np.ndarray,
        mask: MaskDetails,
        reconstruction: np.ndarray,
        untrained: np.ndarray | None,
    ) -> None:
        path = workdir / "previews" / f"{done:08d}.png"
        write_png(path, motion_strip(masked_clip(pretraining, clip, mask, reconstruction, f"Step {done}", untrained)))
        if (workdir / METRICS_FILE).exists() and (metrics := read_metrics(workdir)):
            draw_curves(metrics, workdir / "curves.png")
        print(f"\nwrote {path}", file=sys.stderr, flush=True)

    return draw
