"""VideoMAE ViT-S on Kinetics-400, 1600 epochs: 79.0 after fine-tuning.

    mgmae pretrain --config configs/pretrain/videomae_k400_vit_s_1600.py --workdir DIR --config.data.path=train.csv

Batch 1024, lr 1.5e-4 for 256: 6e-4.
"""

from ml_collections import ConfigDict

from configs.pretrain import videomae_k400_vit_b_800


def get_config() -> ConfigDict:
    config = videomae_k400_vit_b_800.get_config()
    config.model.name = "vit_s"
    config.train.batch_size = 1024
    config.train.epochs = 1600.0
    return config
