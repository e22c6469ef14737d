"""Procedural videos, taken further than by the demo: a quarter of an hour on two idle CPU cores.

    mgmae pretrain --config pretrain/motion_shapes --workdir runs/motion_shapes

8192 videos in place of the demo's 2048, seen in more batches of fewer views, and a decoder of three blocks in place of
one: what the deeper decoder takes over, the encoder's features need not hold, and a linear probe tells the motions
better (docs/RESULTS.md). An interrupted run resumes when the command is given again.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.data.motion_shapes.videos = 8192
    config.data.views = 2
    config.model.decoder_depth = 3
    config.optim.lr = 0.256  # 8e-3 for this batch
    config.optim.min_lr = 0.0025
    config.optim.warmup_epochs = 0.2
    config.train.batch_size = 8
    config.train.epochs = 10.0
    config.train.log_every = 100
    config.checkpoint.every = 500
    return config
