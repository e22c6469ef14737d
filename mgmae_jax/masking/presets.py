"""What config.mask.preset stands for: values of the fields that a config leaves open.

A field that the config or the command line sets keeps its value. The values are filled in when a config is read, so
that a run's config.json has them, and the run keeps them whatever a preset means later.
"""

from typing import Any

from ml_collections import ConfigDict, config_dict

from mgmae_jax.errors import ConfigError

_FAST_SIDE = 128
PRESETS: dict[str, dict[str, Any]] = {
    # The paper's: RAFT at the clip's own size, maps of pixels warped backwards.
    "paper": {"mask.warp": "backward", "flow.size": None, "flow.iters": 6},
    # The same masks for a fraction of the cost, to the extent that docs/BENCHMARKS.md tells.
    "fast": {"mask.warp": "trajectory", "flow.size": _FAST_SIDE, "flow.iters": 4},
    # The authors' program; what else it does is not a matter of fields.
    "released_code": {"mask.warp": "backward", "flow.size": None, "flow.iters": 6},
}
PRESET = "mask.preset"
_TYPES = {"mask.warp": str, "flow.size": int, "flow.iters": int}


def fill_preset(config: ConfigDict) -> ConfigDict:
    """Gives the fields of a pre-training config that are None the values of its preset; changes the config.

    Flow is computed at `flow.size` where that is less than the clip's size.

    Raises:
      ConfigError: there is no such preset.
    """
    if config.mask.preset not in PRESETS:
        raise ConfigError(PRESET, config.mask.preset, "one of " + ", ".join(PRESETS))
    for field, value in PRESETS[config.mask.preset].items():
        section, _, name = field.partition(".")
        if config[section].get(name) is None and not (field == "flow.size" and config.clip.size <= _FAST_SIDE):
            config[section][name] = value
    return config


def forget_preset(config: ConfigDict) -> None:
    """Opens the fields that presets fill in, for another preset to fill them; changes the config."""
    for field, kind in _TYPES.items():
        section, _, name = field.partition(".")
        with config.unlocked():
            if name in config[section]:
                del config[section][name]  # a field that has a value has its type as well
            config[section][name] = config_dict.placeholder(kind)
