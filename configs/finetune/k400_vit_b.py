"""MGMAE ViT-B on Kinetics-400 (Tables 3 and 5), 800 epochs of pre-training: 81.2 / 94.9.

    mgmae finetune --config configs/finetune/k400_vit_b.py --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of configs/pretrain/k400_vit_b. Batch 512 videos, lr 7e-4 for 256: 1.4e-3. Accuracy is top-1
/ top-5 of the last weights over 5 dense clips and 3 crops.
"""

from ml_collections import ConfigDict

from configs.finetune import ssv2_vit_b


def get_config() -> ConfigDict:
    config = ssv2_vit_b.get_config()
    config.clip.sampling = "dense"
    config.eval.sampling = "dense"
    config.eval.clips = 5
    config.augment.flip = True
    config.model.classes = 400
    config.optim.lr = 7e-4
    config.optim.layer_decay = 0.75
    config.train.batch_size = 512
    config.train.epochs = 90.0
    return config
