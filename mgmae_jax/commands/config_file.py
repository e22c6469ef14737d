"""Reading a config, by its name, from a file or from a run's workdir, with the changes of the command line."""

import difflib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from mgmae_jax.commands.config_names import run_config
from mgmae_jax.commands.options import OVERRIDE
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.interop.hub import is_on_hub
from mgmae_jax.masking.presets import PRESET, fill_preset, forget_preset
from mgmae_jax.runtime.checkpoint import file_above
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.files import read_object
from mgmae_jax.runtime.paths import local_text, source_path
from mgmae_jax.runtime.run_info import CONFIG
from mgmae_jax.runtime.weights import Checkpoint, Weights

COMMON = {
    "pretrain": "pretrain/common",
    "finetune": "finetune/common",
    "probe": "probe/common",
    "flow": "flow/raft_small",
    "ablation": "ablation/common",
}
"""For each kind of config, the one that has every field."""
LOCAL_PATHS = ("init", "data.cache", "flow.path", "flow.weights", "validate.folder", "compile_cache")
"""The fields of all kinds that are local paths, if they are not empty."""
SOURCE_PATHS = ("data.path", "eval.path")
"""Those that say where videos are, which may be in a bucket."""


def load_config(value: str, overrides: Sequence[str] = (), flag: str = "--config") -> ConfigDict:
    """Runs a config's `get_config` and changes fields.

    Args:
      value: the value of `--config`, see `run_config`.
      overrides: "--config.FIELD=VALUE".
      flag: the flag that gave it, for errors.

    Raises:
      MgmaeError: there is no such config, it has a field that its kind does not have, an override names no field, or a
        value has the wrong type or is a path that cannot be used.
    """
    check_flags(overrides)
    config = run_config(value, flag)
    if not isinstance(config, ConfigDict):
        raise FileError(value, f"its get_config() gives a {type(config).__name__}, not an ml_collections.ConfigDict")
    check_fields(config, value)
    _check_fields_of(overrides, config)
    return _with_preset(_with_paths(_with_overrides(config, overrides)))


def check_fields(config: ConfigDict, value: str) -> None:
    """Checks that a config has no fields beyond those of its kind's common config.

    Args:
      config: what `get_config` returned.
      value: what the user calls it.

    Raises:
      FileError: its kind is unknown, or it has an unknown field.
    """
    kind = kind_of(config)
    if kind not in COMMON:
        raise FileError(value, f"config.kind={kind!r}: give one of {', '.join(COMMON)}.")
    known = set(_fields(run_config(COMMON[kind])))
    for field in _fields(config):
        if field not in known:
            raise FileError(value, f"sets config.{field}, and a config of kind {kind!r} {_no_field(field, known)}")


def load_run_config(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of the run that a workdir, or a checkpoint in it, belongs to; or that a model of another program has.

    Raises:
      MgmaeError: there is no readable config.json, or an override names no field, has the wrong type or is a path that
        cannot be used.
    """
    check_flags(overrides)
    if isinstance(checkpoint, Weights):
        saved = checkpoint.config.to_dict()
    else:
        saved = read_object(run_folder(checkpoint) / CONFIG, "the config of a run", ".")
    config = ConfigDict(_open_fields(saved))
    _check_fields_of(overrides, config)
    if kind_of(config) == "pretrain" and any(one.startswith(f"{OVERRIDE}{PRESET}=") for one in overrides):
        forget_preset(config)
    return _with_preset(_with_paths(_with_overrides(config, overrides)))


def check_flags(overrides: Sequence[str]) -> None:
    """Checks that each argument that a command's parser did not know overrides a field of the config.

    Raises:
      MgmaeError: an argument is not an override.
    """
    for override in overrides:
        if not override.startswith(OVERRIDE):
            hint = "a field of the config is changed by --config.FIELD=VALUE."
            raise MgmaeError(f"unknown argument {override!r}: {hint}")


def run_folder(checkpoint: str | Path) -> Path:
    """The workdir of the run that a checkpoint belongs to.

    Raises:
      FileError: there is no checkpoint, or no config.json above it.
    """
    if (path := file_above(checkpoint, CONFIG)) is not None:
        return path.parent
    raise FileError(checkpoint, f"no {CONFIG} above this checkpoint; give --checkpoint the workdir of a run.")


def _open_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Lets fields without a value take any type, since JSON does not keep theirs."""

    def opened(value: Any) -> Any:
        if value is None:
            return config_dict.placeholder(object)
        return _open_fields(value) if isinstance(value, dict) else value

    return {name: opened(value) for name, value in fields.items()}


def _fields(config: ConfigDict, section: str = "") -> Iterator[str]:
    """The dotted names of all fields and sections."""
    for name, value in config.items():
        yield f"{section}{name}"
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{section}{name}.")


def _no_field(field: str, known: Collection[str]) -> str:
    """Says which part of a dotted name is unknown, and suggests a field."""
    parts = field.split(".")
    depth = next(depth for depth in range(len(parts)) if ".".join(parts[: depth + 1]) not in known)
    section, last = ".".join(parts[:depth]), parts[depth]
    beside = sorted(name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == section)
    elsewhere = sorted(name for name in known if name.rpartition(".")[2] == last)
    near = elsewhere or difflib.get_close_matches(last, beside, 1)
    where = ".".join(["config", *parts[:depth]])
    all_fields = f"the fields of {where} are {', '.join(beside)}." if beside else f"{where} is a value."
    return f'has no field "{last}"; ' + (f'did you mean "{near[0]}"?' if near else all_fields)


def _check_fields_of(overrides: Sequence[str], config: ConfigDict) -> None:
    """Checks that each override gives a value to a field of the config.

    Raises:
      MgmaeError: one does not.
    """
    known = set(_fields(config))
    for override in overrides:
        flag, equals, _ = override.partition("=")
        field, bracket, _ = flag.removeprefix(OVERRIDE).partition("[")
        if field not in known:
            raise MgmaeError(f"{flag}: the config {_no_field(field, known)}")
        value: Any = config
        for name in field.split("."):
            value = value[name]
        if isinstance(value, ConfigDict):
            raise MgmaeError(f"{flag}: is a section, with the fields {', '.join(value)}: give one of them a value.")
        if bracket:
            whole = f"as in {OVERRIDE}{field}='(1, 2)'" if isinstance(value, tuple | list) else "as it is not a list"
            raise MgmaeError(f"{flag}: an item of a field cannot be changed alone: give the whole field, {whole}.")
        if not equals and not isinstance(value, bool):
            raise MgmaeError(f"{flag}: has no value: give it as {flag}=VALUE.")


def _with_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    values, argv = flags.FlagValues(), ["mgmae", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
        return values.config
    except flags.Error as error:
        raise MgmaeError(f"{error}.") from error


def _with_preset(config: ConfigDict) -> ConfigDict:
    """Fills in what a pre-training config leaves to `mask.preset`."""
    return fill_preset(config) if kind_of(config) == "pretrain" else config


def _with_paths(config: ConfigDict) -> ConfigDict:
    """Expands `~` in the fields that are paths, and refuses remote ones where they cannot be read."""
    for fields, resolve in ((LOCAL_PATHS, local_text), (SOURCE_PATHS, source_path)):
        for field in fields:
            section, _, name = field.rpartition(".")
            holder = config.get(section) if section else config
            value = holder.get(name) if isinstance(holder, ConfigDict) else None
            if field == "init" and is_on_hub(str(value)):
                continue
            if isinstance(value, str) and value and (path := resolve(value, f"config.{field}")) != value:
                holder[name] = path
    return config
