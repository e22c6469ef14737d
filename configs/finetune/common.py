"""The fields of every fine-tuning config, with the defaults of the paper's ViT-B recipe on Something-Something V2.

Other configs call `get_config` and change what differs; a field that is not in this file is an error. Any field is
changed on the command line as `--config.FIELD=VALUE`, for example `--config.model.classes=101`.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """A ViT-B classifier of clips of 16 frames of 224x224."""
    config = ConfigDict()
    config.kind = "finetune"  # what the config is for
    config.seed = 0
    config.init = ""  # pre-trained checkpoint, or its run's workdir (as --init); empty: train from scratch

    config.clip = ConfigDict()
    config.clip.frames = 16
    config.clip.size = 224  # pixels
    config.clip.sampling = "uniform"  # one frame of each of `frames` equal parts of the video; or dense
    config.clip.stride = 4  # dense sampling: frames from one frame of the clip to the next

    config.data = ConfigDict()
    config.data.path = ""  # labelled videos: a folder, list or records (docs/DATA.md); empty: motion_shapes
    config.data.views = 2  # crops, each augmented in its own way, of each decoded clip
    config.data.workers = 4  # processes that decode
    config.data.max_bad_fraction = 0.1  # unreadable training videos that a run tolerates
    config.data.allow_missing = False  # unreadable videos to be evaluated: leave them out and say so, or stop
    config.data.motion_shapes = ConfigDict()  # the procedural videos, made once
    config.data.motion_shapes.videos = 256
    config.data.motion_shapes.test_videos = 96
    config.data.motion_shapes.size = 128
    config.data.motion_shapes.frames = 40

    config.eval = ConfigDict()
    config.eval.path = ""  # the videos that accuracy is measured on, as data.path
    config.eval.every = 1.0  # epochs between evaluations; the end is always evaluated; 0: only the end
    config.eval.sampling = "uniform"  # or dense
    config.eval.clips = 2  # of each video
    config.eval.crops = 3  # of each clip, along the longer side
    config.eval.clips_per_device = 16  # views that a device works on at once
    config.eval.weights = "auto"  # raw, ema, or auto: the average where the run keeps one

    config.augment = ConfigDict()
    config.augment.rand = "rand-m7-n4-mstd0.5-inc1"  # RandAugment; empty: none
    config.augment.min_area = 0.08  # of the random resized crop, share of the frame
    config.augment.flip = False  # turn half of the clips left to right: wrong where the label is a direction
    config.augment.erase = 0.25  # probability that a box is filled with noise

    config.mix = ConfigDict()
    config.mix.mixup = 0.8  # alpha of the Beta distribution; 0: no mixup
    config.mix.cutmix = 1.0  # the same; 0: no cutmix
    config.mix.prob = 1.0  # of mixing a batch at all
    config.mix.switch = 0.5  # of cutmix instead of mixup, where there are both
    config.mix.smoothing = 0.1  # share of a label spread over all classes

    config.mask = ConfigDict()  # MAR: running cells hide tokens from the encoder, in training and at test
    config.mask.ratio = 0.0  # 0.25, 0.5, 0.75; 0: it sees all of them
    config.mask.loss_weight = 0.0  # of the hidden cubes' error (MAR: 0.1 on SSV2, 0.01 on K400); 0: no decoder

    config.model = ConfigDict()
    config.model.name = "vit_b"  # micro, tiny, vit_s, vit_b, vit_l, vit_h, vit_g
    config.model.patch = 16
    config.model.tubelet = 2
    config.model.classes = 174
    config.model.positions = "flat"  # of the pre-training; or separable
    config.model.trained_frames = config_dict.placeholder(int)  # of the pre-training's clips; unset: clip.frames
    config.model.trained_size = config_dict.placeholder(int)  # and their size; unset: clip.size
    config.model.drop_path = 0.1
    config.model.head_dropout = 0.0
    config.model.init_scale = 0.001
    config.model.bridge_depth = 0  # blocks between encoder and head (MAR's bridging classifier has 2); 0: none
    config.model.bridge_width = 512
    config.model.bridge_heads = 4
    config.model.decoder_depth = 4  # with mask.loss_weight: that of the pre-training, whose decoder it begins with
    config.model.dtype = "float32"  # or bfloat16: activations; parameters are float32
    config.model.attention = "auto"  # the fastest for the device; or xla, cudnn
    config.model.remat = False  # compute blocks again in the backward pass: less memory, more time

    config.optim = ConfigDict()
    config.optim.lr = 2e-3  # for a batch of 256; scaled by the batch, like min_lr
    config.optim.min_lr = 1e-6
    config.optim.warmup_epochs = 5.0
    config.optim.weight_decay = 0.05
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.layer_decay = 0.65  # the rate of a block to that of the block after it

    config.train = ConfigDict()
    config.train.batch_size = 256  # videos in a step over all devices; times data.views clips
    config.train.epochs = 25.0
    config.train.accumulate = 1  # parts that a batch is worked on in, for less memory
    config.train.ema_decay = 0.0  # keep an average of the parameters, and evaluate that; 0: no average
    config.train.log_every = 10  # steps
    config.train.profile_steps = ""  # such as 100:105: trace these steps, for a profiler, in WORKDIR/profile
    config.train.max_bad_steps = 10  # steps in a row without a finite loss that a run tolerates

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 1000  # steps; the last is always saved, and the best by accuracy kept
    config.checkpoint.keep = 2  # the latest so many
    config.checkpoint.keep_period = config_dict.placeholder(int)  # and every one at a multiple of this step

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1  # devices that share one copy of the parameters

    config.compile_cache = ""  # folder of compiled programs; empty: ~/.cache/mgmae_jax/xla
    return config
