"""Fields that configs of earlier versions did not have, and the value that their runs had without a word.

A run that was begun before a field existed resumes if the field still has this value. So a new field of a common config
needs a line here, and a default that changes nothing.
"""

from collections.abc import Mapping
from typing import Any

ADDED: Mapping[str, Mapping[str, Any]] = {
    "pretrain": {
        "data.cache": "",
        "data.cache_gib": 50.0,
        "data.motion_shapes.still": False,
        "mask.spacing": 8,
        "mask.occlusion": "none",
        "mask.decoder": "all",
        "mask.decoder_ratio": 0.5,
        "mask.prefer": "visible",
        "mask.temperature": 0.0,
        "mask.keep": 0.3,
        "mask.loss_weight": 1e-4,
        "mask.blocks": 8,
        "mask.block_scale": 0.15,
        "mask.block_aspect": 1.5,
        "mask.block": 0.4,
        "flow.whole_frame": False,
        "train.profile_steps": "",
    },
    "finetune": {
        "mask.ratio": 0.0,
        "mask.loss_weight": 0.0,
        "model.bridge_depth": 0,
        "model.bridge_width": 512,
        "model.bridge_heads": 4,
        "model.decoder_depth": 4,
        "train.profile_steps": "",
    },
    "flow": {"train.perturb": 0.0, "train.profile_steps": ""},
}
"""By the kind of config, and the dotted name of the field."""
