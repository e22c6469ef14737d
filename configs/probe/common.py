"""Probes: how much of a frozen encoder's features a small model, or none at all, can tell the classes by.

    mgmae probe --checkpoint runs/mine --config probe/common \
        --config.data.path=train.csv --config.eval.path=test.csv

Clips have the frames and the size that the encoder was pre-trained with. Features are extracted once and kept with the
probe, so that others on the same videos start at once. A field that is not in this file is an error in a config for a
probe.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """A linear probe of the mean of the tokens."""
    config = ConfigDict()
    config.kind = "probe"  # what the config is for
    config.seed = 0

    config.probe = ConfigDict()
    config.probe.kind = "linear"  # of mean tokens; attentive: a learned query attends to all tokens; knn
    config.probe.encoder = "trained"  # or random: the same network before training, to compare with
    # linear, knn: the mean of all tokens; tubelet: a mean for each tubelet, in order; region: for 3x3 regions of each
    config.probe.pool = "clip"
    config.probe.neighbours = 20  # knn: how many vote
    config.probe.temperature = 0.07  # knn: a vote weighs exp(cosine / temperature)

    config.data = ConfigDict()
    config.data.path = ""  # labelled videos: a folder of class folders, or a .csv or .jsonl list; empty: motion_shapes
    config.data.workers = 4  # processes that decode
    config.data.allow_missing = False  # unreadable videos: leave them out and say so, or stop
    config.data.motion_shapes = ConfigDict()  # the procedural videos, made once
    config.data.motion_shapes.videos = 256
    config.data.motion_shapes.test_videos = 96
    config.data.motion_shapes.size = 128
    config.data.motion_shapes.frames = 40

    config.views = ConfigDict()  # of the videos that the probe is trained on; each is an example
    config.views.sampling = "dense"  # or uniform
    config.views.clips = 1
    config.views.crops = 1

    config.eval = ConfigDict()  # of those that it is measured on; the mean over them counts
    config.eval.path = ""
    config.eval.sampling = "dense"
    config.eval.clips = 1
    config.eval.crops = 1
    config.eval.clips_per_device = 16  # views that a device works on at once

    config.optim = ConfigDict()
    config.optim.lr = 1e-3  # for a batch of 256; scaled by the batch, like min_lr
    config.optim.min_lr = 1e-6
    config.optim.warmup_epochs = 5.0
    config.optim.weight_decay = 0.05
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999

    config.train = ConfigDict()
    config.train.batch_size = 256  # views
    config.train.epochs = 100.0
    config.train.log_every = 10  # steps
    config.train.max_bad_steps = 10  # steps in a row without a finite loss that a run tolerates

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 1000  # steps; the last is always saved
    config.checkpoint.keep = 1
    config.checkpoint.keep_period = config_dict.placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1  # devices that share one copy of the parameters

    config.compile_cache = ""  # folder of compiled programs; empty: ~/.cache/mgmae_jax/xla
    return config
