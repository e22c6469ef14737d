"""The demo's encoder on procedural videos, frozen: which of sixteen motions is it?

    make demo
    mgmae probe --checkpoint runs/demo --config configs/probe/motion_shapes.py

The same with `--config.probe.kind=attentive` or `knn`. A minute or two on a CPU, most of it for the features.
"""

from ml_collections import ConfigDict

from configs.probe import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.seed = 6  # the demo's: the same training videos
    config.data.workers = 2
    config.optim.lr = 8e-3  # 1e-3 for this batch
    config.train.batch_size = 32
    return config
