"""What `--config` means: a config of the package by its name, or a Python file."""

import contextlib
import difflib
import functools
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType, ModuleType

from ml_collections import ConfigDict

from mgmae_jax import configs  # type: ignore[attr-defined]  # mypy does not know where setuptools finds it
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.paths import local_text

CONFIG_HELP = "a config's name, like demo or pretrain/ssv2_vit_b, or a Python file"
"""The help text of every `--config`."""
_SHOWN = 3  # nearest names


def run_config(value: str, flag: str = "--config") -> ConfigDict:
    """Runs the `get_config` that a value of `--config` names.

    A family of configs has a table ROWS, and `get_config(row)`. Each row has a name of its own, and can also be
    given after a colon: pretrain/ssv2_vit_b, pretrain/mgmae:ssv2_vit_b and FILE.py:ssv2_vit_b.

    Args:
      value: a name, or a Python file that exists. A leading "configs/" and a trailing ".py" of a name are dropped.
      flag: the flag that gave it, for errors.

    Returns:
      What `get_config` returns.

    Raises:
      MgmaeError: it is neither a name nor a file, a row is missing or unknown, or the file cannot be run.
    """
    value = local_text(value, flag) if value else value
    whole = Path(value)
    stem, _, row = (value, "", "") if whole.suffix == ".py" and whole.is_file() else value.partition(":")
    if (file := Path(stem)).suffix == ".py" and file.is_file():
        module = _run_file(file)
    else:
        name = str(PurePosixPath(stem)).removeprefix("configs/").removesuffix(".py")
        if name in config_names() and not row:
            name, row = config_names()[name]
        if name not in _modules():
            raise MgmaeError(_unknown(value, name, flag))
        module = _modules()[name]
    rows = getattr(module, "ROWS", None)
    if rows is not None and row not in rows:
        near = difflib.get_close_matches(row, rows, _SHOWN)
        hint = f"did you mean {stem}:{near[0]}?" if near else "they are " + ", ".join(rows)
        raise MgmaeError(f"{flag} {value}: give one of its rows, as in {stem}:{next(iter(rows), 'ROW')}; {hint}")
    with _told(value, str(module.__file__)):
        return module.get_config(row) if row else module.get_config()


@functools.cache
def config_names() -> Mapping[str, tuple[str, str]]:
    """Every name, with the module below `configs` that it is in ("pretrain/mgmae") and its row there, if any."""
    names: dict[str, tuple[str, str]] = {}
    for path, module in _modules().items():
        folder = path.rpartition("/")[0]
        rows = {f"{folder}/{row}": (path, row) for row in getattr(module, "ROWS", ())}
        names |= rows or {path: (path, "")}
    return MappingProxyType(names)


@functools.cache
def _modules() -> Mapping[str, ModuleType]:
    """The package's modules with a `get_config`, by path: "demo", "pretrain/mgmae"."""
    prefix = f"{configs.__name__}."
    found = [info.name for info in pkgutil.walk_packages(configs.__path__, prefix) if not info.ispkg]
    modules = {name.removeprefix(prefix).replace(".", "/"): importlib.import_module(name) for name in found}
    return {path: module for path, module in modules.items() if hasattr(module, "get_config")}


def _unknown(value: str, name: str, flag: str) -> str:
    """Says that there is no config of this name, and lists those that exist."""
    meant = name.rpartition("configs/")[2]
    near = [known for known in config_names() if known.rpartition("/")[2] == meant]
    near = near or difflib.get_close_matches(meant, config_names(), _SHOWN)
    folders: dict[str, list[str]] = {}
    for known in config_names():
        folder, slash, last = known.rpartition("/")
        folders.setdefault(f"{folder}{slash}", []).append(last)
    lines = [f"  {folder}{': ' if folder else ''}{', '.join(names)}" for folder, names in folders.items()]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return "\n".join([f"{flag} {value}: no such config or Python file{hint} The configs are", *lines])


def _run_file(path: Path) -> ModuleType:
    """Runs a config file; leaves no bytecode beside it."""
    file = path.resolve()
    module = ModuleType("mgmae_config_file")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    with _told(str(path), str(file)):
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    if not callable(getattr(module, "get_config", None)):
        raise FileError(path, "has no get_config(): a config file has one, which returns an ml_collections.ConfigDict")
    return module


@contextlib.contextmanager
def _told(value: str, file: str) -> Iterator[None]:
    """Turns an exception inside a config file into an error that names the file and the line."""
    try:
        yield
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = f"line {lines[-1]}: " if lines else ""
        raise FileError(value, f"{line}{type(error).__name__}: {' '.join(str(error).split())}") from error
