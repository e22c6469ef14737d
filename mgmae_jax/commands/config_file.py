"""Reading a config, from its file or from a run's workdir, with the changes of the command line."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

import mgmae_jax
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.checkpoint import file_above
from mgmae_jax.runtime.run_info import CONFIG

CONFIGS = Path(mgmae_jax.__file__).parents[1] / "configs"


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
    roots = [folder.parent for folder in file.parents if folder.name == "configs"]
    if roots and str(roots[0]) not in sys.path:
        sys.path.insert(0, str(roots[0]))
    config = _with_overrides(config_flags.DEFINE_config_file, None, [f"--config={file}", *overrides])
    if not isinstance(config, ConfigDict):
        raise FileError(path, f"its get_config() gives a {type(config).__name__}, not an ml_collections.ConfigDict")
    return config


def file_config(path: str | None, default: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of a file, by default the file `default` of the repository's configs/.

    Raises:
      MgmaeError: see `load_config`; or the package was installed without its repository, and no file is given.
    """
    standard = CONFIGS / default
    if path is None and not standard.is_file():
        raise FileError(standard, "is not there: give --config one of the files in the repository's configs/.")
    return load_config(path or str(standard), overrides)


def load_run_config(checkpoint: Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of the run that a workdir, or a checkpoint in it, belongs to.

    Raises:
      MgmaeError: there is no readable config.json, or an override names no field or has the wrong type.
    """
    path = run_folder(checkpoint) / CONFIG
    try:
        config = ConfigDict(_open_fields(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, AttributeError) as error:
        raise FileError(path, f"cannot be read as the config of a run ({error}).") from error
    return _with_overrides(config_flags.DEFINE_config_dict, config, overrides)


def run_folder(checkpoint: Path) -> Path:
    """The workdir of the run that a checkpoint belongs to.

    Raises:
      FileError: there is no checkpoint, or no config.json above it.
    """
    if (path := file_above(checkpoint, CONFIG)) is not None:
        return path.parent
    raise FileError(checkpoint, f"no {CONFIG} above this checkpoint; give --checkpoint the workdir of a run.")


def _open_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Makes fields without a value, whose type JSON does not keep, take any."""

    def opened(value: Any) -> Any:
        if value is None:
            return config_dict.placeholder(object)
        return _open_fields(value) if isinstance(value, dict) else value

    return {name: opened(value) for name, value in fields.items()}


def _with_overrides(define: Callable, default: ConfigDict | None, arguments: Sequence[str]) -> ConfigDict:
    for argument in arguments:
        if not argument.startswith(("--config.", "--config=")):
            raise MgmaeError(
                f"unknown argument {argument!r}: a field of the config is changed by --config.FIELD=VALUE."
            )
    values, argv = flags.FlagValues(), ["mgmae", *arguments]
    try:
        define("config", default, flag_values=values, sys_argv=argv)
        values(argv)
        return values.config
    except flags.Error as error:
        raise MgmaeError(f"{error}.") from error
    except (AttributeError, KeyError) as error:
        # ml_collections says, in one or two layers of quotes: 'ration'\nDid you mean "ratio" instead of "ration"?
        missing = re.search(r"'(\w+)\\?'", str(error))
        nearest = re.search(r'Did you mean "(\w+)"', str(error))
        if missing is None:
            raise
        fields = [argument.split("=")[0] for argument in arguments]
        field = next((field for field in fields if missing[1] in field.split(".")), missing[1])
        hint = f'did you mean "{nearest[1]}"?' if nearest else "configs/common.py lists the fields."
        raise MgmaeError(f'{field}: the config has no field "{missing[1]}"; {hint}') from error
