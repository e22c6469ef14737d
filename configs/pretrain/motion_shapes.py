"""Procedural videos for an hour: what `make demo` begins, taken further; on two CPU cores.

    mgmae pretrain --config pretrain/motion_shapes --workdir runs/motion_shapes_hour

8192 videos, a wider and deeper model than the demo's, ten times its steps; the same grid, mask and target. An
interrupted run resumes when the command is given again. Half of it, `--config.train.epochs=4.0`, took 22 minutes and
left an error of 0.238 where the mean cube leaves 0.473 (docs/RESULTS.md); the whole has not been run yet.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.data.motion_shapes.videos = 8192
    config.model.name = "tiny"
    config.model.decoder_depth = 2
    config.optim.warmup_epochs = 0.2
    config.train.epochs = 8.0
    config.train.log_every = 100
    config.checkpoint.every = 500
    config.preview.every = 4000
    return config
