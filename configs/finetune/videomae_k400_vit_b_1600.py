"""VideoMAE ViT-B on Kinetics-400 (Tables 3 and 5), 1600 epochs of pre-training: 81.5 / 95.1.

    mgmae finetune --config configs/finetune/videomae_k400_vit_b_1600.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/videomae_k400_vit_b_1600. Batch 384, lr 5e-4 for 256: 7.5e-4.
"""

from ml_collections import ConfigDict

from configs.finetune import k400_vit_b


def get_config() -> ConfigDict:
    config = k400_vit_b.get_config()
    config.optim.lr = 5e-4
    config.train.batch_size = 384
    config.train.epochs = 75.0
    return config
