"""VideoMAE ViT-B on Something-Something V2 (Tables 3 and 4), 2400 epochs of pre-training: 70.8 / 92.4.

    mgmae finetune --config configs/finetune/videomae_ssv2_vit_b_2400.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/videomae_ssv2_vit_b_2400. Batch 384, lr 5e-4 for 256: 7.5e-4.
"""

from ml_collections import ConfigDict

from configs.finetune import ssv2_vit_b


def get_config() -> ConfigDict:
    config = ssv2_vit_b.get_config()
    config.optim.lr = 5e-4
    config.optim.layer_decay = 0.75
    config.train.batch_size = 384
    config.train.epochs = 30.0
    return config
