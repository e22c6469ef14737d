"""VideoMAE ViT-L on Kinetics-400, 1600 epochs: 85.2 after fine-tuning.

    mgmae pretrain --config configs/pretrain/videomae_k400_vit_l_1600.py --workdir DIR --config.data.path=train.csv

A decoder of 12 blocks. Batch 512, lr 1.5e-4 for 256: 3e-4.
"""

from ml_collections import ConfigDict

from configs.pretrain import videomae_k400_vit_b_800


def get_config() -> ConfigDict:
    config = videomae_k400_vit_b_800.get_config()
    config.model.name = "vit_l"
    config.model.decoder_depth = 12
    config.train.batch_size = 512
    config.train.epochs = 1600.0
    return config
