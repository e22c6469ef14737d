"""The fields of every pre-training config, with the defaults of the paper's ViT-B recipe (appendix).

Other configs call `get_config` and change what differs; a field that is not in this file is an error. Any field is
changed on the command line as `--config.FIELD=VALUE`, for example `--config.mask.ratio=0.85`.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """MGMAE, ViT-B, 16 frames of 224x224."""
    config = ConfigDict()
    config.kind = "pretrain"  # what the config is for
    config.seed = 0

    config.clip = ConfigDict()
    config.clip.frames = 16
    config.clip.size = 224  # pixels
    config.clip.stride = 4  # frames from one frame of the clip to the next

    config.data = ConfigDict()
    config.data.path = ""  # a folder of videos, a .csv or .jsonl list, or records (docs/DATA.md); empty: motion_shapes
    config.data.views = 1  # crops, each with a mask of its own, of each decoded clip
    config.data.workers = 4  # processes that decode
    config.data.max_bad_fraction = 0.1  # unreadable videos that a run tolerates
    config.data.cache = ""  # folder for the decoded frames of a small data set; empty: decode every clip
    config.data.cache_gib = 50.0  # how much that folder may hold
    config.data.motion_shapes = ConfigDict()  # the procedural videos, made once
    config.data.motion_shapes.videos = 256
    config.data.motion_shapes.size = 128
    config.data.motion_shapes.frames = 40
    config.data.motion_shapes.still = False  # the same videos standing still, to compare with

    config.model = ConfigDict()
    config.model.name = "vit_b"  # micro, tiny, vit_s, vit_b, vit_l, vit_h, vit_h_videomae, vit_g
    config.model.patch = 16
    config.model.tubelet = 2
    config.model.decoder_depth = 4
    config.model.positions = "flat"  # the published table; or separable: time, row and column apart, for small models
    config.model.dtype = "float32"  # or bfloat16: activations; parameters are float32
    config.model.attention = "auto"  # the fastest for the device; or xla, cudnn
    config.model.remat = False  # compute blocks again in the backward pass: less memory, more time

    config.mask = ConfigDict()
    config.mask.preset = "paper"  # fast, released_code: what they say is in mgmae_jax/masking/presets.py
    # tube, random, frame, running_cell, motion_energy, frame_difference, everest, adamae, multi_block, moving_blocks
    config.mask.strategy = "motion"
    config.mask.ratio = 0.9
    config.mask.base_frame = "middle"  # first, random
    config.mask.init = "gaussian"  # token, pixel
    config.mask.warp = config_dict.placeholder(str)  # backward, forward, trajectory; unset: the preset's
    config.mask.spacing = config_dict.placeholder(int)  # pixels between trajectory's points; unset: 8, or 7 of 14
    config.mask.hole_fill = "tube"  # random, invisible, visible, previous
    config.mask.select = "tubelet"  # clip
    config.mask.exposure = 0.0  # noise on one random frame, in standard deviations of its scores
    config.mask.occlusion = "none"  # consistency: motion takes what the neighbour hides for a hole, by flow both ways
    config.mask.decoder = "all"  # the decoder predicts all that is hidden; or what running_cell leaves (VideoMAE V2)
    config.mask.decoder_ratio = 0.5  # share of the tokens that running_cell hides from the decoder
    config.mask.prefer = "visible"  # motion_energy, frame_difference: moving tokens are visible; or hidden
    config.mask.temperature = 0.0  # of their draws, in standard deviations of the energies; 0: exactly the first
    config.mask.keep = 0.3  # everest: share of the tokens that is used at all, more than 1 - mask.ratio
    config.mask.loss_weight = 1e-4  # adamae: of its sampling network's loss
    config.mask.blocks = 8  # multi_block: V-JEPA's short-range masks; its long-range ones are 2 blocks of 0.7
    config.mask.block_scale = 0.15  # multi_block: share of the frame that a block covers
    config.mask.block_aspect = 1.5  # multi_block: largest ratio of a block's sides
    config.mask.block = 0.4  # moving_blocks: the sides of a block, in sides of the frame

    config.flow = ConfigDict()
    config.flow.source = "raft"  # in the step; dis, tvl1, codec: by the data workers; stored: of `mgmae flow`; none
    config.flow.path = ""  # folder of stored flow, laid out as the videos are; empty: each beside its video
    config.flow.weights = "bundled"  # the package's own (docs/FLOW.md), or a file: .safetensors or PyTorch's .pth
    config.flow.iters = config_dict.placeholder(int)  # RAFT's updates; unset: the preset's, 6 or 3
    config.flow.size = config_dict.placeholder(int)  # pixels; unset: the preset's, the clip's own size or 112
    config.flow.whole_frame = False  # with data.views: RAFT runs once for all of them, on whole frames of flow.size
    config.flow.dtype = "float32"
    config.flow.tvl1_fast = True  # False: OpenCV's own settings, eighty times slower, better on small motion

    config.loss = ConfigDict()
    config.loss.target = "normalised"  # cubes of mean 0 and variance 1 (the paper); or pixels; or hog (MaskFeat)

    config.optim = ConfigDict()
    config.optim.name = "adamw"  # or muon, which small models learn by sooner (docs/RESULTS.md)
    config.optim.lr = 1e-3  # for a batch of 256; scaled by the batch, like min_lr
    config.optim.min_lr = 1e-5
    config.optim.warmup_epochs = 20.0
    config.optim.weight_decay = 0.05
    config.optim.b1 = 0.9
    config.optim.b2 = 0.95

    config.train = ConfigDict()
    config.train.batch_size = 256  # videos in a step over all devices; times data.views clips
    config.train.epochs = 200.0
    config.train.accumulate = 1  # parts that a batch is worked on in, for less memory
    config.train.log_every = 10  # steps
    config.train.profile_steps = ""  # such as 100:105: trace these steps, for a profiler, in WORKDIR/profile
    config.train.max_bad_steps = 10  # steps in a row without a finite loss that a run tolerates

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 1000  # steps; the last is always saved
    config.checkpoint.keep = 2  # the latest so many
    config.checkpoint.keep_period = config_dict.placeholder(int)  # and every one at a multiple of this step

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1  # devices that share one copy of the parameters

    config.preview = ConfigDict()
    config.preview.every = 1000  # steps between pictures of masks and reconstructions; 0: only at the start

    config.compile_cache = ""  # folder of compiled programs; empty: ~/.cache/mgmae_jax/xla
    return config
