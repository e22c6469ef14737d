"""A pre-training run's workdir, made without training."""

from pathlib import Path

import jax

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints
from mgmae_jax.runtime.run_info import write_run_info
from mgmae_jax.train.pretrain import build_pretraining
from mgmae_jax.train.state import TrainState
from tests.train.finetuned import ROOT

SMALL = {"clip.frames": 4, "clip.size": 32, "model.patch": 16, "model.decoder_depth": 1, "mask.ratio": 0.5}


def pretrained_run(workdir: Path) -> TrainState:
    """Writes checkpoint 3 of random weights and config.json."""
    overrides = [f"--config.{name}={value}" for name, value in SMALL.items()]
    config = load_config(str(ROOT / "configs" / "demo.py"), overrides)
    state = jax.jit(build_pretraining(config, videos=64).init)(jax.random.key(0))
    write_run_info(workdir, config, [])
    with Checkpoints(workdir / FOLDER, every=1, keep=1) as checkpoints:
        checkpoints.save(3, state, {}, force=True)
    return state
