"""MGMAE ViT-B on Kinetics-400 (Tables 3 and 5), 1600 epochs of pre-training: 81.8 / 95.0.

    mgmae finetune --config configs/finetune/k400_vit_b_1600.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/k400_vit_b_1600. Batch 512 videos, lr 7e-4 for 256: 1.4e-3.
"""

from ml_collections import ConfigDict

from configs.finetune import k400_vit_b


def get_config() -> ConfigDict:
    return k400_vit_b.get_config()
