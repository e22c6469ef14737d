"""RAFT-small on procedural motion, on two CPU cores: hours rather than minutes, with small frames and few updates.

    mgmae train-flow --config flow/raft_small_cpu --workdir runs/flow

This is how the weights that come with the package were made at first; docs/FLOW.md has the figures.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs.flow import raft_small


def get_config() -> ConfigDict:
    config = raft_small.get_config()
    config.train.steps = (5_500, 1_500, 450)
    config.train.size = (128, 160, 192)
    config.train.batch_size = (4, 4, 4)
    config.train.iters = (4, 5, 6)
    config.train.dtype = "float32"  # a CPU is slow in bfloat16
    config.train.log_every = 50
    config.data.draw = "host"
    config.data.threads = 1
    config.validate.every = 500
    config.validate.pairs = 48
    config.checkpoint.every = 250
    return config
