"""What config.mask.preset stands for: values of the fields that a config leaves open.

A field that the config or the command line sets keeps its value. The values are filled in when a config is read, so
that a run's config.json has them, and the run keeps them whatever a preset means later.
"""

from typing import Any

from ml_collections import ConfigDict, config_dict

from mgmae_jax.errors import ConfigError

_FAST_SIDE = 112
_SPACING = 8
"""At most so many pixels from one point that trajectories follow to the next, if the config does not say."""
PRESETS: dict[str, dict[str, Any]] = {
    # The paper's: RAFT at the clip's own size, maps of pixels warped backwards.
    "paper": {"mask.warp": "backward", "flow.size": None, "flow.iters": 6},
    # The same masks for a fraction of the cost, to the extent that docs/BENCHMARKS.md tells.
    "fast": {"mask.warp": "trajectory", "flow.size": _FAST_SIDE, "flow.iters": 3},
    # The authors' program; what else it does is not a matter of fields.
    "released_code": {"mask.warp": "backward", "flow.size": None, "flow.iters": 6},
}
PRESET = "mask.preset"
_TYPES = {"mask.warp": str, "flow.size": int, "flow.iters": int}


def fill_preset(config: ConfigDict) -> ConfigDict:
    """Gives the fields of a pre-training config that are None the values of its preset; changes the config.

    Flow is computed at `flow.size` where that is less than the clip's size. An open `mask.spacing` becomes the largest
    divisor of the patch that is at most 8 pixels: 7 for patches of 14.

    Raises:
      ConfigError: there is no such preset.
    """
    if config.mask.preset not in PRESETS:
        raise ConfigError(PRESET, config.mask.preset, "one of " + ", ".join(PRESETS))
    for field, value in PRESETS[config.mask.preset].items():
        section, _, name = field.partition(".")
        if config[section].get(name) is None and not (field == "flow.size" and config.clip.size <= _FAST_SIDE):
            config[section][name] = value
    if config.mask.get("spacing") is None:
        config.mask.spacing = max(n for n in range(1, _SPACING + 1) if config.model.patch % n == 0)
    return config


def forget_preset(config: ConfigDict) -> None:
    """Opens the fields that presets fill in, for another preset to fill them; changes the config."""
    for field, kind in _TYPES.items():
        section, _, name = field.partition(".")
        with config.unlocked():
            if name in config[section]:
                del config[section][name]  # a field that has a value has its type as well
            config[section][name] = config_dict.placeholder(kind)
