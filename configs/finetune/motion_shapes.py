"""The demo's encoder told sixteen motions apart: fine-tuning on procedural videos in minutes, on a CPU.

make demo
mgmae finetune --config configs/finetune/motion_shapes.py --workdir runs/motion_shapes --init runs/demo
"""

from ml_collections import ConfigDict

from configs.finetune import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.seed = 6  # the demo's: the same training videos
    config.clip.size = 64
    config.data.views = 1
    config.data.workers = 2
    config.eval.clips = 1
    config.eval.crops = 1
    config.eval.every = 10.0
    config.augment.rand = ""
    config.augment.min_area = 0.5
    config.augment.erase = 0.0
    config.mix.mixup = 0.0
    config.mix.cutmix = 0.0
    config.model.name = "tiny"
    config.model.patch = 8
    config.model.classes = 16
    config.model.drop_path = 0.0
    config.model.init_scale = 1.0
    config.optim.lr = 1.6e-2  # 1e-3 for this batch
    config.optim.warmup_epochs = 2.0
    config.optim.layer_decay = 0.75
    config.train.batch_size = 16
    config.train.epochs = 30.0
    config.train.log_every = 5
    config.checkpoint.every = 100
    return config
