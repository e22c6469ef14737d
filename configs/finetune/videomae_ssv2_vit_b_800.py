"""VideoMAE ViT-B on Something-Something V2 (Tables 3 and 4), 800 epochs of pre-training: 69.6 / 92.0.

    mgmae finetune --config configs/finetune/videomae_ssv2_vit_b_800.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/videomae_ssv2_vit_b_800. Batch 512, lr 5e-4 for 256: 1e-3; one view.
"""

from ml_collections import ConfigDict

from configs.finetune import ssv2_vit_b


def get_config() -> ConfigDict:
    config = ssv2_vit_b.get_config()
    config.data.views = 1
    config.optim.lr = 5e-4
    config.optim.layer_decay = 0.75
    config.train.batch_size = 512
    config.train.epochs = 50.0
    return config
