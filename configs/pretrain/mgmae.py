"""MGMAE's published pre-training: ViT-B, motion guided masks, RAFT-small's flow inside the step (the paper's appendix).

    mgmae pretrain --config pretrain/ssv2_vit_b --workdir DIR --config.data.path=train.csv \
        --config.flow.weights=raft-small.pth

and the same with the other names:

| --config                 | batch |     lr |  epochs | cost            |   loss | top-1 / top-5 | here    |
|--------------------------|------:|-------:|--------:|-----------------|-------:|---------------|---------|
| pretrain/ssv2_vit_b      |   384 | 1.5e-3 | 200 x 4 | 43 h on 16 A100 | 0.5820 | 71.0 / 93.1   | not run |
| pretrain/ssv2_vit_b_2400 |   384 | 1.5e-3 | 600 x 4 |                 | 0.5659 | 72.3 / 93.5   | not run |
| pretrain/k400_vit_b      |   384 | 1.5e-3 | 200 x 4 |                 | 0.6462 | 81.2 / 94.9   | not run |
| pretrain/k400_vit_b_1600 |   384 | 1.5e-3 | 400 x 4 |                 | 0.6378 | 81.8 / 95.0   | not run |

Masks are those of `mask.preset=fast`, which cost a fraction of the paper's and mostly show the same tokens
(docs/BENCHMARKS.md); `--config.mask.preset=paper` makes the paper's own.

The paper reached its figures with the flow of the published RAFT-small, so the command gives that file for every row.
Without it, flow is computed with the weights that come with the package, which are less precise (docs/FLOW.md).

lr is optim.lr, which is for a batch of 256, scaled to this batch. An epoch shows 4 crops of every clip (data.views),
each with a mask of its own; the paper counts it as 4 epochs. The cost is that of Table 1, the loss that of pre-training
(Table 2), the accuracy that of the finetune/ config of the same name (Tables 3 to 5). Here: what this code reached. The
stride of Something-Something V2 is for videos of 12 frames a second.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from mgmae_jax.configs.pretrain import common


class Row(NamedTuple):
    """In what the published runs differ."""

    stride: int
    epochs: float


ROWS = {
    "ssv2_vit_b": Row(stride=2, epochs=200.0),
    "ssv2_vit_b_2400": Row(stride=2, epochs=600.0),
    "k400_vit_b": Row(stride=4, epochs=200.0),
    "k400_vit_b_1600": Row(stride=4, epochs=400.0),
}


def get_config(row: str) -> ConfigDict:
    config = common.get_config()
    config.clip.stride = ROWS[row].stride
    config.data.views = 4
    config.data.workers = 16
    config.model.dtype = "bfloat16"
    config.mask.preset = "fast"
    config.flow.dtype = "bfloat16"
    config.train.batch_size = 384
    config.train.epochs = ROWS[row].epochs
    config.checkpoint.keep_period = 20_000
    return config
