"""ViT-S on your own videos: a folder of them, or a .csv or .jsonl list, with RAFT flow inside the train step.

    mgmae pretrain --config pretrain/folder --workdir runs/mine --config.data.path=VIDEOS

The flow is that of the weights that come with the package; `--config.flow.weights=raft-small.pth` takes the published
ones, `--config.flow.source=dis` (or tvl1) computes flow in the data workers, `codec` makes it of the videos' motion
vectors, `stored` reads what `mgmae flow` has computed beforehand. The recipe is VideoMAE's for ViT-S (batch 1024, lr
1.5e-4 for 256) with a batch that one machine holds; the learning rate scales with the batch.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs.pretrain import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.clip.stride = 2
    config.model.name = "vit_s"
    config.mask.preset = "fast"  # paper: the paper's own masks, slower
    config.optim.lr = 1.5e-4
    config.optim.warmup_epochs = 40.0
    config.train.batch_size = 8
    config.train.epochs = 800.0
    config.train.log_every = 1
    config.checkpoint.every = 100
    config.preview.every = 100
    return config
