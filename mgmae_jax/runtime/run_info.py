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
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.config_history import ADDED
from mgmae_jax.runtime.files import read_object, write_json

CONFIG = "config.json"
RUN = "run.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
ALLOW_CHANGE = "--allow-change"
"""The flag that lets a run resume with other values of fields."""
_SHOWN = 10  # differing fields shown in an error


def write_run_info(
    workdir: str | Path,
    config: ml_collections.ConfigDict,
    argv: Sequence[str],
    changes: Sequence[str] | None = None,
    weights: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes WORKDIR/config.json and WORKDIR/run.json, each whole or not at all.

    Args:
      workdir: the run's folder; made if absent.
      config: the resolved config.
      argv: the command line.
      changes: what was changed in a resumed run, added to what run.json says of earlier changes; None for a new one.
      weights: where the weights of another program that the run uses come from; a resumed run keeps what is said there.

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
    if changes is not None and (Path(workdir) / RUN).exists():
        before = read_object(Path(workdir) / RUN, "what is known of the run", ": move it away")
        weights = weights or before.get("weights")
        if (earlier := before.get("changes", [])) or changes:
            run["changes"] = [*earlier, *changes]
    if weights:
        run["weights"] = dict(weights)
    write_json(Path(workdir) / CONFIG, _plain(config))
    write_json(Path(workdir) / RUN, run)
    return run


def check_same_config(
    workdir: str | Path,
    config: ml_collections.ConfigDict,
    machine_fields: Sequence[str] = (),
    flag: str = "--workdir",
    allowed: Sequence[str] = (),
) -> list[str]:
    """Checks that a workdir is new, or holds a run of this config; for fields that are newer than it see `ADDED`.

    Args:
      workdir: the run's folder; without a config.json it is new.
      config: the resolved config of the run about to start.
      machine_fields: dotted fields, or parents of fields, that depend on the machine and may differ: "mesh".
      flag: the flag that gave the workdir.
      allowed: further fields, or parents, that may differ this time.

    Returns:
      One line for each field that differs and is allowed to: "optim.lr: 0.1 before, 0.2 now".

    Raises:
      FileError: config.json is damaged.
      MgmaeError: other fields differ; the message names them with both values.
    """
    path = Path(workdir) / CONFIG
    if not path.exists():
        return []
    saved = read_object(path, "the config of the run there", f": restore it, or give another {flag}")
    if "kind" in config:  # configs of earlier versions did not have it
        saved.setdefault("kind", kind_of(ml_collections.ConfigDict(saved)))
    before, now = flat_fields(saved), flat_fields(_plain(config))
    for name, value in ADDED.get(config.get("kind", ""), {}).items():
        if name in now:
            before.setdefault(name, json.dumps(value))
    names = [
        name
        for name in {**now, **before}
        if before.get(name, _ABSENT) != now.get(name, _ABSENT) and not covers(machine_fields, name)
    ]
    refused = [name for name in names if not covers(allowed, name)]
    if refused:
        shown = [f"  {name}: {before.get(name, _ABSENT)} there, {now.get(name, _ABSENT)} now" for name in refused]
        more = [f"  and {len(refused) - _SHOWN} more"] if len(refused) > _SHOWN else []
        change = f", or {ALLOW_CHANGE} {' '.join(refused[:_SHOWN])} to resume it changed" if flag == "--workdir" else ""
        raise MgmaeError(
            "\n".join([f"{workdir} holds a run of another config:", *shown[:_SHOWN], *more])
            + f"\nGive another {flag}, or the same config to resume that run{change}."
        )
    return [f"{name}: {before.get(name, _ABSENT)} before, {now.get(name, _ABSENT)} now" for name in names]


def covers(fields: Sequence[str], name: str) -> bool:
    """Whether a dotted field is one of `fields` or below one of them."""
    return any(f"{name}.".startswith(f"{field}.") for field in fields)


_ABSENT = "(absent)"


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as it looks after a round trip through JSON: references resolved, tuples as lists."""
    return json.loads(json.dumps(config.to_dict()))


def flat_fields(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The fields of a config by their dotted names, each value as JSON."""
    fields: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            fields |= flat_fields(value, f"{prefix}{name}.")
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
