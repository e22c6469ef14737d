"""VideoMAE ViT-S on Something-Something V2, 2400 epochs: 66.8 after fine-tuning.

    mgmae pretrain --config configs/pretrain/videomae_ssv2_vit_s_2400.py --workdir DIR --config.data.path=train.csv

Batch 1024, lr 1.5e-4 for 256: 6e-4. Stride 2 assumes 12 fps.
"""

from ml_collections import ConfigDict

from configs.pretrain import videomae_k400_vit_s_1600


def get_config() -> ConfigDict:
    config = videomae_k400_vit_s_1600.get_config()
    config.clip.stride = 2
    config.train.epochs = 2400.0
    return config
