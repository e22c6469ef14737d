"""A tiny model on procedural videos: the whole of the method in minutes, on a CPU.

    make demo

or `mgmae pretrain --config configs/demo.py --workdir runs/demo`. 256 videos of 128x128 are rendered into
~/.cache/mgmae_jax; clips are 16 frames of 64x64 with patches of 8 pixels, so that a tubelet has 64 tokens, 6 of them
visible. The flow is computed inside the train step, by the weights that come with the package.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.seed = 6  # the clip of the previews has a fast camera
    config.clip.size = 64
    config.clip.stride = 2
    config.data.workers = 2
    config.model.name = "tiny"
    config.model.patch = 8
    config.model.decoder_depth = 2
    config.flow.iters = 4  # the frames are small
    config.optim.lr = 4.8e-3  # 3e-4 for this batch; after 1.5e-3 short trials of fine-tuning went worse
    config.optim.warmup_epochs = 2.0
    config.train.batch_size = 16
    config.train.epochs = 7.0
    config.train.log_every = 5
    config.checkpoint.every = 100
    config.preview.every = 100
    return config
