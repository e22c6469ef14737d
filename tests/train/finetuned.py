"""A fine-tuning run's workdir, as the trainer leaves it, made without training."""

from pathlib import Path

import jax
import numpy as np

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.evaluate.classes import write_classes
from mgmae_jax.evaluate.run import abstract_params
from mgmae_jax.models.classifier import build_classifier
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.runtime.run_info import write_run_info

ROOT = Path(__file__).parents[2]
SMALL = {"clip.frames": 4, "clip.size": 32, "model.name": "tiny", "model.patch": 16, "data.workers": 0}
SMALL |= {"eval.clips_per_device": 6}


def finetuned_run(
    workdir: Path, classes: tuple[str, ...], *, ema: bool = False, seed: int = 0, **changes: object
) -> None:
    """Writes checkpoint 7, config.json and classes.json.

    Args:
      workdir: for them.
      classes: names.
      ema: keep an average of the weights too, which is other weights.
      seed: of the random weights, which are large enough for confident predictions.
      changes: fields of the config, with "__" for the dot.
    """
    fields = SMALL | {"model.classes": len(classes), "train.ema_decay": 0.5 if ema else 0.0}
    fields |= {name.replace("__", "."): value for name, value in changes.items()}
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    config = load_config(str(ROOT / "configs" / "finetune" / "common.py"), overrides)
    shapes = abstract_params(build_classifier(config), make_mesh())

    def random_params(seed: int) -> object:
        rng = np.random.default_rng(seed)
        return jax.tree.map(
            lambda leaf: jax.device_put(rng.normal(scale=0.1, size=leaf.shape).astype(leaf.dtype), leaf.sharding),
            shapes,
        )

    state = {"params": random_params(seed)} | ({"ema": random_params(seed + 1)} if ema else {})
    write_run_info(workdir, config, [])
    write_classes(workdir, classes)
    with Checkpoints(workdir / FOLDER, every=1, keep=1) as checkpoints:
        checkpoints.save(7, state, {}, force=True)
