"""VideoMAE ViT-L on Kinetics-400, 1600 epochs of pre-training: 85.2.

    mgmae finetune --config configs/finetune/videomae_k400_vit_l_1600.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/videomae_k400_vit_l_1600. Batch 128, lr 2e-3 for 256: 1e-3.
"""

from ml_collections import ConfigDict

from configs.finetune import k400_vit_b


def get_config() -> ConfigDict:
    config = k400_vit_b.get_config()
    config.model.name = "vit_l"
    config.optim.lr = 2e-3
    config.train.batch_size = 128
    config.train.epochs = 35.0
    return config
