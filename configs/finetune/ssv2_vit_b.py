"""MGMAE ViT-B on Something-Something V2 (Tables 3 and 4), 800 epochs of pre-training: 71.0 / 93.1.

    mgmae finetune --config configs/finetune/ssv2_vit_b.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/ssv2_vit_b. Batch 256 videos, lr 2e-3 for 256: 2e-3. Accuracy is top-1 /
top-5 of the last weights over 2 uniform clips and 3 crops.
"""

from ml_collections import ConfigDict

from configs.finetune import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.data.workers = 16
    config.eval.every = 5.0
    config.model.dtype = "bfloat16"
    return config
