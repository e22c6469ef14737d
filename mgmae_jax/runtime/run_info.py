"""What a workdir records about its run: the resolved config, versions, command and machine."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import ml_collections

import mgmae_jax
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.files import write_json

CONFIG = "config.json"
RUN = "run.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_SHOWN = 10  # differing fields shown in an error


def write_run_info(workdir: str | Path, config: ml_collections.ConfigDict, argv: Sequence[str]) -> dict[str, Any]:
    """Writes WORKDIR/config.json and WORKDIR/run.json, each whole or not at all.

    Args:
      workdir: the run's folder; made if absent.
      config: the resolved config.
      argv: the command line.

    Returns:
      What run.json holds.

    Raises:
      FileError: the workdir cannot be written to.
    """
    run = {
        "command": shlex.join(argv),
        "versions": {"mgmae_jax": mgmae_jax.__version__} | {name: metadata.version(name) for name in _PACKAGES},
        "git_revision": git_revision(),
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }
    write_json(Path(workdir) / CONFIG, _plain(config))
    write_json(Path(workdir) / RUN, run)
    return run


def check_same_config(
    workdir: str | Path, config: ml_collections.ConfigDict, machine_fields: Sequence[str] = (), flag: str = "--workdir"
) -> None:
    """Checks that a workdir is new, or holds a run of this config.

    Args:
      workdir: the run's folder; without a config.json it is new.
      config: the resolved config of the run about to start.
      machine_fields: dotted fields, or parents of fields, that depend on the machine and may differ: "mesh".
      flag: the flag that gave the workdir.

    Raises:
      FileError: config.json is damaged.
      MgmaeError: fields differ; the message names them with both values.
    """
    path = Path(workdir) / CONFIG
    if not path.exists():
        return
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(saved, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        reason = f"cannot be read as the config of the run there ({error}): restore it, or give another {flag}"
        raise FileError(path, reason) from error
    if "kind" in config:  # configs of earlier versions did not have it
        saved.setdefault("kind", kind_of(ml_collections.ConfigDict(saved)))
    before, now = _flat(saved), _flat(_plain(config))
    names = [
        name
        for name in {**now, **before}
        if before.get(name, _ABSENT) != now.get(name, _ABSENT)
        and not any(f"{name}.".startswith(f"{field}.") for field in machine_fields)
    ]
    if names:
        shown = [f"  {name}: {before.get(name, _ABSENT)} there, {now.get(name, _ABSENT)} now" for name in names]
        more = [f"  and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
        raise MgmaeError(
            "\n".join([f"{workdir} holds a run of another config:", *shown[:_SHOWN], *more])
            + f"\nGive another {flag}, or the same config to resume that run."
        )


_ABSENT = "(absent)"


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as it looks after a round trip through JSON: references resolved, tuples as lists."""
    return json.loads(json.dumps(config.to_dict()))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            fields |= _flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = json.dumps(value)
    return fields


def git_revision() -> str | None:
    """The commit of the repository that the package runs from, with "-dirty" if changed; None if installed."""
    root = Path(mgmae_jax.__file__).parents[1]
    if not (root / ".git").exists():  # a repository around an installed package does not describe it
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
