"""The demo's encoder on procedural videos, frozen: which of sixteen motions is it?

    make demo
    mgmae probe --checkpoint runs/demo --config probe/motion_shapes
    mgmae probe --checkpoint runs/demo --config probe/motion_shapes --config.probe.encoder=random

The second is the same network before training, which is what the first is to be compared with: chance is 6.25%, and
random features tell more. `--config.probe.kind=attentive` and `knn` are other probes. The probe learns from the 2048
videos of the demo, and is measured on 1024 that nothing was chosen or trained on. A minute each on two CPU cores, most
of it for the features. docs/RESULTS.md has the figures.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs.probe import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.seed = 12  # the demo's: the same training videos
    config.data.workers = 2
    config.data.motion_shapes.videos = 2048
    config.data.motion_shapes.test_videos = 1024
    config.data.motion_shapes.size = 64
    config.data.motion_shapes.frames = 16
    config.probe.pool = "region"  # the motion is in the order of time, and in where things are
    config.views.sampling = "uniform"
    config.eval.sampling = "uniform"
    config.optim.lr = 1.6e-2  # the best of 1e-3, 4e-3 and this on the videos of seed 100, which nothing else uses
    return config
