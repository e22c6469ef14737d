"""VideoMAE ViT-S on Something-Something V2, 2400 epochs of pre-training: 66.8.

    mgmae finetune --config configs/finetune/videomae_ssv2_vit_s_2400.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/videomae_ssv2_vit_s_2400. Batch 384, lr 1e-3 for 256: 1.5e-3.
"""

from ml_collections import ConfigDict

from configs.finetune import ssv2_vit_b


def get_config() -> ConfigDict:
    config = ssv2_vit_b.get_config()
    config.model.name = "vit_s"
    config.optim.lr = 1e-3
    config.optim.layer_decay = 0.7
    config.train.batch_size = 384
    config.train.epochs = 40.0
    return config
