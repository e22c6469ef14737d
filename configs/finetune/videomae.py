"""VideoMAE's published fine-tuning (its launch scripts), on the data set of the pre-training.

    mgmae finetune --config finetune/videomae_ssv2_vit_b_800 --workdir DIR --init PRETRAINED \
        --config.data.path=train.csv --config.eval.path=test.csv

and the same with the other names. PRETRAINED is the workdir of the pretrain/ config of the same name.

| --config                          | batch |     lr | epochs | top-1 / top-5 | here    |
|-----------------------------------|------:|-------:|-------:|---------------|---------|
| finetune/videomae_ssv2_vit_s_2400 |   384 | 1.5e-3 |     40 | 66.8 / 90.3   | not run |
| finetune/videomae_ssv2_vit_b_800  |   512 |   1e-3 |     50 | 69.6 / 92.0   | not run |
| finetune/videomae_ssv2_vit_b_2400 |   384 | 7.5e-4 |     30 | 70.8 / 92.4   | not run |
| finetune/videomae_k400_vit_s_1600 |   384 | 7.5e-4 |    150 | 79.0 / 93.8   | not run |
| finetune/videomae_k400_vit_b_800  |   512 |   2e-3 |    100 | 80.0 / 94.4   | not run |
| finetune/videomae_k400_vit_b_1600 |   384 | 7.5e-4 |     75 | 81.5 / 95.1   | not run |
| finetune/videomae_k400_vit_l_1600 |   128 |   1e-3 |     35 | 85.2 / 96.8   | not run |
| finetune/videomae_k400_vit_h_1600 |   512 |   2e-3 |     50 | 86.6 / 97.1   | not run |

lr is optim.lr, which is for a batch of 256, scaled to this batch. No cost is published. The accuracy is that of
VideoMAE's model zoo, measured as in finetune/mgmae.py. Here: what this code reached.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs.finetune.mgmae import Row, from_row

ROWS = {
    "videomae_ssv2_vit_s_2400": Row("ssv2", batch_size=384, lr=1e-3, epochs=40.0, layer_decay=0.7, model="vit_s"),
    "videomae_ssv2_vit_b_800": Row("ssv2", batch_size=512, lr=5e-4, epochs=50.0, layer_decay=0.75, views=1),
    "videomae_ssv2_vit_b_2400": Row("ssv2", batch_size=384, lr=5e-4, epochs=30.0, layer_decay=0.75),
    "videomae_k400_vit_s_1600": Row("k400", batch_size=384, lr=5e-4, epochs=150.0, layer_decay=0.75, model="vit_s"),
    "videomae_k400_vit_b_800": Row("k400", batch_size=512, lr=1e-3, epochs=100.0, layer_decay=0.75, views=1),
    "videomae_k400_vit_b_1600": Row("k400", batch_size=384, lr=5e-4, epochs=75.0, layer_decay=0.75),
    "videomae_k400_vit_l_1600": Row("k400", batch_size=128, lr=2e-3, epochs=35.0, layer_decay=0.75, model="vit_l"),
    "videomae_k400_vit_h_1600": Row(
        "k400", batch_size=512, lr=1e-3, epochs=50.0, layer_decay=0.75, model="vit_h", drop_path=0.2, head_dropout=0.5,
        min_lr=1e-5,
    ),
}  # fmt: skip


def get_config(row: str) -> ConfigDict:
    return from_row(ROWS[row])
