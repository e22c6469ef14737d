"""MGMAE ViT-B on Something-Something V2 (Tables 3 and 4), 2400 epochs of pre-training: 72.3 / 93.5.

    mgmae finetune --config configs/finetune/ssv2_vit_b_2400.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/ssv2_vit_b_2400. Batch 256 videos, lr 2e-3 for 256: 2e-3.
"""

from ml_collections import ConfigDict

from configs.finetune import ssv2_vit_b


def get_config() -> ConfigDict:
    return ssv2_vit_b.get_config()
