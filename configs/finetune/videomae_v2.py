"""VideoMAE V2's fine-tuning of ViT-B on Kinetics-400 (its launch script).

    mgmae finetune --config finetune/videomae_v2_k400_vit_b --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

PRETRAINED is the workdir of the pretrain/ config of the same name.

| --config                        | batch |     lr | epochs | top-1 / top-5 | here    |
|---------------------------------|------:|-------:|-------:|---------------|---------|
| finetune/videomae_v2_k400_vit_b |   512 | 1.4e-3 |     90 |               | not run |

lr is optim.lr, which is for a batch of 256, scaled to this batch. VideoMAE V2's model zoo has no ViT-B that was
fine-tuned from this pre-training. Here: what this code reached.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs.finetune.mgmae import Row, from_row

ROWS = {"videomae_v2_k400_vit_b": Row("k400", batch_size=512, lr=7e-4, epochs=90.0, layer_decay=0.75)}


def get_config(row: str) -> ConfigDict:
    return from_row(ROWS[row])
