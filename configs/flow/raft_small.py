"""RAFT-small on procedural motion, on a GPU: 100,000 steps, as many as RAFT's own first training.

    mgmae train-flow --config flow/raft_small --workdir runs/flow

The weights that come with the package had 6,200 of such steps, and three trainings on a CPU: docs/FLOW.md. The pairs
are drawn on the device from scenes of a few hundred numbers, so that no data is read and none is moved. Each tuple of
config.train has an entry for each stage of a curriculum. The effective learning rate is optim.lr, whatever the batch. A
field that is not in this file is an error in a config for the flow network.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.kind = "flow"  # what the config is for
    config.seed = 0
    config.init = ""  # a weights file to start from; empty: train from scratch

    config.train = ConfigDict()
    config.train.steps = (100_000,)
    config.train.size = (288,)  # pixels
    config.train.batch_size = (24,)  # pairs in a step over all devices
    config.train.iters = (10,)  # RAFT's updates in the loss
    config.train.dtype = "bfloat16"  # or float32: RAFT's convolutions; correlation, flow and loss are float32
    config.train.perturb = 0.0  # part of RAFT's updates that are given an error to correct; 0.3 for a long run
    config.train.ema = 0.999
    config.train.log_every = 100  # steps
    config.train.profile_steps = ""  # such as 100:105: trace these steps, for a profiler, in WORKDIR/profile
    config.train.max_bad_steps = 10

    config.optim = ConfigDict()
    config.optim.lr = 1.5e-3  # of Muon, at the peak of the cycle
    config.optim.min_lr = 1.5e-5
    config.optim.warmup = 0.05  # part of the run
    config.optim.weight_decay = 1e-4
    config.optim.b1 = 0.9  # of Adam, which moves the biases
    config.optim.b2 = 0.999
    config.optim.clip = 1.0  # norm of the gradient

    config.data = ConfigDict()
    config.data.draw = "device"  # or host: in threads, by OpenCV
    config.data.threads = 6

    config.validate = ConfigDict()  # on pairs of another seed; the best weights are chosen by them
    config.validate.every = 2000  # steps
    config.validate.pairs = 128
    config.validate.size = 224
    config.validate.iters = 6
    config.validate.folder = ""  # of real pairs, to be looked at as well; see `mgmae bench flow`

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 2000  # steps
    config.checkpoint.keep = 2

    config.compile_cache = ""
    return config
