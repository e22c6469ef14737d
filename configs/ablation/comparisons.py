"""Motion guided masks against others (the paper's Tables 2 and 3, and Figure 4).

    mgmae ablate --grid ablation/main --out runs/ablation

and the same with the other names. Give all of them the same --out: what they have in common is then run once.

| --grid                 | compares                                                    | rows |
|------------------------|-------------------------------------------------------------|-----:|
| ablation/main          | random, tube and motion guided masks: loss, probe, accuracy |    4 |
| ablation/ratio         | tube and motion guided masks that hide more: loss, probe    |    6 |
| ablation/table2        | the loss of tube and motion guided masks, moving and still  |    6 |
| ablation/table3        | the accuracy of both after a short and a long pre-training  |    4 |
| ablation/figure4       | both class by class                                         |    2 |

Motion guided masks are harder than tubes that hide as much, and an encoder learns more from tubes that hide more than
three quarters: main has a row of those, and ratio compares both at three ratios. Each pre-training is that of the grids
of masks (ablation/masks.py): 2048 procedural videos, 1536 steps of 16 clips, as many as the demo's; the long ones of
table3 take five times as many. Fine-tuning is that of finetune/motion_shapes: in half of its epochs some encoders do
not leave chance.

The still videos of table2 show one frame all the time, so that there is nothing to follow. Motion guided masks are
harder than tubes there too, since a Gaussian mixture shows a few large regions, and a tube tokens here and there. "From
tokens" starts from the tokens that a tube would show: what is left of the difference is that they move along.
"""

from ml_collections import ConfigDict

from mgmae_jax.configs.ablation import common

_TUBE, _MOTION, _TOKENS = "mask.strategy=tube", "mask.strategy=motion", "mask.init=token"
_PROBE = "probe/motion_shapes"
_STILL, _LONG = "data.motion_shapes.still=True", "train.epochs=30.0"


def get_config(row: str) -> ConfigDict:
    config = common.get_config()
    config.pretrain.config = "pretrain/motion_shapes"
    config.pretrain.fields = common.SHORT
    ROWS[row](config)
    return config


def _main(config: ConfigDict) -> None:
    config.title = "Random, tube and motion guided masks"
    config.paper = "SSv2 top-1 %: tube (VideoMAE) 69.6, motion guided 71.0, after 800 epochs (Table 3)."
    config.rows = (
        ("random", "mask.strategy=random"),
        ("tube", _TUBE),
        ("tube, 0.9 hidden", _TUBE, "mask.ratio=0.9"),
        ("motion guided", _MOTION),
    )
    _measured(config)


def _ratio(config: ConfigDict) -> None:
    config.title = "How much is hidden, by tube and by motion guided masks"
    config.paper = "VideoMAE's tubes hide 0.9; motion guided masks on SSv2 are best at 0.85 (Figure 3)."
    config.rows = tuple(
        (f"{name}, {ratio}", strategy, f"mask.ratio={ratio}")
        for name, strategy in (("tube", _TUBE), ("motion guided", _MOTION))
        for ratio in (0.75, 0.85, 0.9)
    )
    config.baseline = "tube, 0.9"
    config.probe.config = _PROBE


def _table2(config: ConfigDict) -> None:
    config.title = "Table 2: the loss of pre-training"
    config.paper = (
        "loss of normalised cubes on SSv2 and K400 after 800 epochs: tube (VideoMAE) 0.5278 and 0.5875, motion guided "
        "0.5820 and 0.6462. Here pixels are predicted."
    )
    config.rows = (
        ("tube", _TUBE),
        ("motion guided", _MOTION),
        ("motion guided, from tokens", _MOTION, _TOKENS),
        ("tube, still videos", _TUBE, _STILL),
        ("motion guided, still videos", _MOTION, _STILL),
        ("motion guided, from tokens, still videos", _MOTION, _TOKENS, _STILL),
    )
    config.against = tuple((row[0], "tube, still videos") for row in config.rows if _STILL in row)


def _table3(config: ConfigDict) -> None:
    config.title = "Table 3: accuracy after short and long pre-training"
    config.paper = "SSv2 top-1 %: 800 epochs, tube 69.6, motion guided 71.0; 2400 epochs, 70.8 and 72.3."
    config.rows = (
        ("tube", _TUBE),
        ("motion guided", _MOTION),
        ("tube, long", _TUBE, _LONG),
        ("motion guided, long", _MOTION, _LONG),
    )
    config.against = (("tube, long", "tube, long"), ("motion guided, long", "tube, long"))
    _measured(config)


def _figure4(config: ConfigDict) -> None:
    config.title = "Figure 4: motion guided masks against tube masks, class by class"
    config.paper = "the 29 classes of SSv2 that differ most between the two."
    config.rows = (("tube", _TUBE), ("motion guided", _MOTION))
    config.classes = True
    _measured(config)


def _measured(config: ConfigDict) -> None:
    """By a probe, and by fine-tuning."""
    config.probe.config = _PROBE
    config.finetune.config = "finetune/motion_shapes"


ROWS = {"main": _main, "ratio": _ratio, "table2": _table2, "table3": _table3, "figure4": _figure4}
