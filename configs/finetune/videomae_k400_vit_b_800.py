"""VideoMAE ViT-B on Kinetics-400 (Tables 3 and 5), 800 epochs of pre-training: 80.0 / 94.4.

    mgmae finetune --config configs/finetune/videomae_k400_vit_b_800.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/videomae_k400_vit_b_800. Batch 512, lr 1e-3 for 256: 2e-3; one view.
"""

from ml_collections import ConfigDict

from configs.finetune import k400_vit_b


def get_config() -> ConfigDict:
    config = k400_vit_b.get_config()
    config.data.views = 1
    config.optim.lr = 1e-3
    config.train.epochs = 100.0
    return config
