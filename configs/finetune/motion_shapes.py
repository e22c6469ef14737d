"""Sixteen motions to be told apart: fine-tuning the demo's encoder on procedural videos in minutes, on a CPU.

    make demo
    mgmae finetune --config finetune/motion_shapes --workdir runs/motion_shapes --init runs/demo
    mgmae evaluate --checkpoint runs/motion_shapes

Without --init the same model is trained from scratch. Accuracy is measured on 1024 videos of their own; chance is
6.25%. From the demo it reached 39 to 43% in three seeds, from scratch it stays near chance (docs/RESULTS.md). Ten
epochs took eight to nine minutes on two busy CPU cores.

The 2048 training videos are the demo's, and so is the shape of a clip: 8 frames of 48x48, here one from every two
frames of a video. Crops are at least 0.7 of the frame, and nothing is flipped: the label is the motion.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs.finetune import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.seed = 12  # the demo's: the same training videos
    config.clip.frames = 8
    config.clip.size = 48
    config.data.views = 2
    config.data.workers = 1
    config.data.motion_shapes.videos = 2048
    config.data.motion_shapes.test_videos = 1024
    config.data.motion_shapes.size = 64
    config.data.motion_shapes.frames = 16
    config.eval.every = 5.0
    config.eval.clips = 1
    config.eval.crops = 1
    config.augment.rand = ""
    config.augment.min_area = 0.7
    config.augment.erase = 0.0
    config.mix.mixup = 0.0
    config.mix.cutmix = 0.0
    config.model.name = "micro"
    config.model.patch = 8
    config.model.positions = "separable"
    config.model.classes = 16
    config.model.drop_path = 0.0
    config.model.init_scale = 1.0
    config.optim.lr = 1.6e-2  # 1e-3 for this batch
    config.optim.warmup_epochs = 0.5
    config.optim.layer_decay = 1.0  # the demo's encoder has too much to learn for slow first layers
    config.train.batch_size = 16
    config.train.epochs = 10.0
    config.train.log_every = 64
    config.checkpoint.every = 640
    return config
