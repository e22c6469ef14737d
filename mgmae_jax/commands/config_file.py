"""Reading a config file with the changes of the command line."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from mgmae_jax.errors import FileError, MgmaeError


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Runs a config file's `get_config` and changes fields.

    Args:
      path: of a Python file with `get_config()`; modules beside its `configs` folder can be imported from it.
      overrides: "--config.FIELD=VALUE".

    Raises:
      MgmaeError: there is no such file or field, or a value has the wrong type.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise FileError(path, "no such config file; those that come with the project are in configs/")
    for other in overrides:
        if not other.startswith("--config."):
            raise MgmaeError(f"unknown argument {other!r}: a field of the config is changed by --config.FIELD=VALUE")
    roots = [folder.parent for folder in file.parents if folder.name == "configs"]
    if roots and str(roots[0]) not in sys.path:
        sys.path.insert(0, str(roots[0]))
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=["mgmae", f"--config={file}", *overrides])
    try:
        values(["mgmae", f"--config={file}", *overrides])
        config = values.config
    except flags.Error as error:
        raise MgmaeError(f"{error}.") from error
    except (AttributeError, KeyError) as error:
        # ml_collections: "'ration'\nDid you mean "ratio" instead of "ration"?"
        hint = re.sub(r"^'(\w+)'\s*", r"\1: no such field. ", str(error.args[0]))
        raise MgmaeError(f"{_field_of(overrides, hint)}{hint}") from error
    if not isinstance(config, ConfigDict):
        raise FileError(path, f"its get_config() gives a {type(config).__name__}, not an ml_collections.ConfigDict")
    return config


def _field_of(overrides: Sequence[str], hint: str) -> str:
    name = hint.split(":")[0]
    return next((f"{text.split('=')[0]}: " for text in overrides if name in text.split("=")[0].split(".")), "")
