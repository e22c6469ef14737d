"""The fields of every grid of `mgmae ablate`. A grid is trained from one file, and so is its table.

Each row is a pre-training with other fields. Each row with each seed is a cell: its pre-training, then the linear probe
of its encoder, and its fine-tuning where there is one. A seed stands for videos, weights, masks and order, the same for
all rows, so that rows are compared in pairs. A grid of your own is a Python file that changes what `get_config` here
returns: docs/ABLATIONS.md has one.
"""

from ml_collections import ConfigDict, config_dict

SHORT = ("data.motion_shapes.videos=2048", "optim.warmup_epochs=0.4", "train.epochs=6.0")
"""Changes to pretrain/motion_shapes: the demo's 2048 videos and its 1536 steps, in seven minutes on one CPU core."""


def get_config() -> ConfigDict:
    """Tube masks and motion guided masks, on a clip of the demo's size."""
    config = ConfigDict()
    config.kind = "ablation"  # what the config is for
    config.title = config_dict.placeholder(str)  # above the table; a grid of your own needs one
    config.paper = config_dict.placeholder(str)  # what the paper reports, for the reader of the table
    config.seed = 12  # the first; the others follow
    config.seeds = 5  # how many, at most 20 (as --seeds)
    config.rows = (  # each a name, and fields of the pre-training config
        ("tube", "mask.strategy=tube"),
        ("motion guided", "mask.strategy=motion"),
    )
    config.baseline = "tube"  # the row that the others are compared with
    config.against = ()  # (row, row to compare it with), where that is another
    config.axis = config_dict.placeholder(str)  # what the rows' names are numbers of, if they are: drawn as a curve
    config.classes = False  # compare class by class as well, as in the paper's Figure 4

    config.pretrain = ConfigDict()
    config.pretrain.config = "demo"
    config.pretrain.fields = ()  # "FIELD=VALUE", changed in every row

    config.probe = ConfigDict()  # of every row, and of the baseline's network with random weights
    config.probe.config = config_dict.placeholder(str)  # "probe/motion_shapes"; unset: no probe
    config.probe.fields = ()

    config.finetune = ConfigDict()
    config.finetune.config = config_dict.placeholder(str)  # "finetune/motion_shapes"; unset: no fine-tuning
    config.finetune.fields = ()
    return config
