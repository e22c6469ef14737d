"""VideoMAE V2's pre-training of ViT-B with dual masking (its launch script), to compare MGMAE with.

    mgmae pretrain --config pretrain/videomae_v2_k400_vit_b --workdir DIR --config.data.path=train.csv

| --config                        | batch |   lr |  epochs | cost |   loss | top-1 / top-5 | here    |
|---------------------------------|------:|-----:|--------:|------|-------:|---------------|---------|
| pretrain/videomae_v2_k400_vit_b |  1024 | 4e-3 | 200 x 4 |      |        |               | not run |

The encoder sees a tenth of the tokens by tube masks, as in VideoMAE. The decoder predicts the half that running cells
leave, and the loss is over those of them that are hidden from the encoder (`mask.decoder`); this works with any
`mask.strategy` that has no targets of its own, so `--config.mask.strategy=motion --config.flow.source=raft` is MGMAE
with it.

lr is optim.lr, which is for a batch of 256, scaled to this batch. An epoch shows 4 crops of every clip (data.views),
each with a mask of its own. The published run is on 1.35 million clips of several sources (UnlabeledHybrid), with a
stride of 2 for those of Something-Something V2 and 4 for all others, which is taken here. The authors publish neither
cost, loss nor accuracy of this model. Here: what this code reached.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from mgmae_jax.configs.pretrain import common


class Row(NamedTuple):
    """In what runs with dual masking differ."""

    stride: int
    batch_size: int
    epochs: float


ROWS = {"videomae_v2_k400_vit_b": Row(stride=4, batch_size=1024, epochs=200.0)}


def get_config(row: str) -> ConfigDict:
    recipe = ROWS[row]
    config = common.get_config()
    config.clip.stride = recipe.stride
    config.data.views = 4
    config.data.workers = 16
    config.mask.strategy = "tube"
    config.mask.ratio = 176 / 196  # as in VideoMAE: 20 tokens of each tubelet are visible
    config.mask.decoder = "running_cell"
    config.flow.source = "none"
    config.model.dtype = "bfloat16"
    config.train.batch_size = recipe.batch_size
    config.train.epochs = recipe.epochs
    config.checkpoint.keep_period = 20_000
    return config
