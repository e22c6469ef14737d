"""VideoMAE ViT-H on Kinetics-400, 1600 epochs of pre-training: 86.6.

    mgmae finetune --config configs/finetune/videomae_k400_vit_h_1600.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/videomae_k400_vit_h_1600. Batch 512, lr 1e-3 for 256: 2e-3; the head's
dropout is 0.5, the drop path 0.2.
"""

from ml_collections import ConfigDict

from configs.finetune import k400_vit_b


def get_config() -> ConfigDict:
    config = k400_vit_b.get_config()
    config.model.name = "vit_h"
    config.model.drop_path = 0.2
    config.model.head_dropout = 0.5
    config.optim.lr = 1e-3
    config.optim.min_lr = 1e-5
    config.train.epochs = 50.0
    return config
