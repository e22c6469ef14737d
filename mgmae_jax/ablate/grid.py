"""A grid of experiments: rows of changed fields, each to be run with several seeds, as a config describes it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mgmae_jax.data.sources import read_source
from mgmae_jax.datasets.find import dataset_name
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.train.optim import epochs_to_steps

MAX_SEEDS = 20
"""The p-values are exact: each is computed from all signs of the differences, a million for 20 seeds."""
RANDOM = "random weights"
"""The row of the probe of the same network before training."""
_RANDOM_FIELD = "probe.encoder=random"
_LONGEST = 60  # characters of a folder's name, before its hash

Resolve = Callable[[str, Sequence[str]], ConfigDict]
"""Reads a config: its name, and changes as "--config.FIELD=VALUE"."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training or measurement, but for its seed.

    Attributes:
      config: the config's name.
      fields: what is changed in it, as "FIELD=VALUE".
      folder: its folder's name, which ends in a hash of the resolved config without its seed and without defaults:
        stages that would compute the same share a folder.
      steps: the step at which it ends; 0 for a probe, which ends with its report.
    """

    config: str
    fields: tuple[str, ...]
    folder: str
    steps: int = 0

    def flags(self, seed: int) -> list[str]:
        """The flags that name and change the config."""
        changes = [f"--config.{field}" for field in self.fields]
        return ["--config", self.config, *changes, f"--config.seed={seed}"]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
      name: what the table calls it.
      against: the row that it is compared with, seed by seed.
      pretrain: its pre-training.
    """

    name: str
    against: str
    pretrain: Stage


@dataclasses.dataclass(frozen=True)
class Grid:
    """What a grid consists of; all that its table needs to know.

    Attributes:
      name: the file name of its tables: "main".
      title: above the table.
      paper: what the paper reports, for the reader of the table.
      axis: what the rows' names are numbers of, if they are.
      classes: whether to compare class by class as well.
      baseline: the row that the others are compared with.
      seeds: the seeds.
      rows: the rows.
      probe: the linear probe of each pre-training, if there is one.
      random: the same of random weights, for the baseline row only.
      finetune: the fine-tuning of each pre-training, if there is one.
    """

    name: str
    title: str
    paper: str
    axis: str
    classes: bool
    baseline: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    probe: Stage | None
    random: Stage | None
    finetune: Stage | None

    def to_json(self) -> dict[str, Any]:
        """The grid as JSON holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Grid:
        """The grid that `to_json` wrote.

        Raises:
          KeyError, TypeError: it is none.
        """
        rows = tuple(Row(one["name"], one["against"], _stage_from(one["pretrain"])) for one in content["rows"])
        stages = {
            name: None if content[name] is None else _stage_from(content[name])
            for name in ("probe", "random", "finetune")
        }
        return cls(**{**content, **stages, "rows": rows, "seeds": tuple(content["seeds"])})


def _stage_from(content: Mapping[str, Any]) -> Stage:
    return Stage(**{**content, "fields": tuple(content["fields"])})


class Configs(NamedTuple):
    """The resolved configs of a grid: of each row's pre-training by its name, of the probe, of the fine-tuning."""

    rows: dict[str, ConfigDict]
    probe: ConfigDict | None
    finetune: ConfigDict | None


def read_grid(name: str, config: ConfigDict, resolve: Resolve, seeds: int | None = None) -> tuple[Grid, Configs]:
    """Reads a grid, and with it the config of every stage, so that a wrong field is an error before anything runs.

    Args:
      name: what the user calls it; the last part of it names the tables.
      config: see configs/ablation/common.py.
      resolve: reads the configs that it names.
      seeds: how many, in place of `config.seeds`.

    Returns:
      The grid, and its configs.

    Raises:
      MgmaeError: a field cannot work; it is named.
    """
    check_kind(config, "ablation")
    count = config.seeds if seeds is None else seeds
    if not 1 <= count <= MAX_SEEDS:
        raise ConfigError("seeds", count, f"1 to {MAX_SEEDS}; --seeds as well")
    if ".py" in name and not config.title:
        raise ConfigError("title", config.title, "a title, which tells the grid from others of its file's name")
    names = [row[0] for row in config.rows if row and not isinstance(row, str)]
    named = len(names) == len(config.rows) and all(isinstance(name, str) for name in names)
    if not names or not named or len(set(names)) < len(names) or RANDOM in names:
        want = f'rows as ("NAME", "FIELD=VALUE", ...), each with a name of its own other than {RANDOM!r}'
        raise ConfigError("rows", tuple(config.rows), want)
    if any(isinstance(pair, str) or len(pair) != 2 for pair in config.against):
        raise ConfigError("against", tuple(config.against), "pairs, as ((row, row to compare it with), ...)")
    against = dict(config.against)
    for field, row in (("baseline", config.baseline), *(("against", end) for pair in config.against for end in pair)):
        if row not in names:
            raise ConfigError(field, row, f"the name of a row: {', '.join(names)}")
    if config.axis and not all(_is_number(row) for row in names):
        raise ConfigError("axis", config.axis, "rows whose names are numbers, or leave it unset")

    configs, rows = {}, []
    for row, *fields in config.rows:
        try:
            stage, configs[row] = _stage(config.pretrain, "pretrain", resolve, fields)
        except MgmaeError as error:
            raise MgmaeError(f"{name}, row {row!r}: {error}") from error
        rows.append(Row(row, against.get(row, config.baseline), stage))
    same: dict[str, str] = {}
    for row in rows:
        if (other := same.setdefault(row.pretrain.folder, row.name)) != row.name:
            raise MgmaeError(f"{name}: the rows {other!r} and {row.name!r} are the same run; remove one")
    probe, probe_config = _stage(config.probe, "probe", resolve) if config.probe.config else (None, None)
    random = _stage(config.probe, "probe", resolve, [_RANDOM_FIELD])[0] if probe else None
    tuning, tuning_config = _stage(config.finetune, "finetune", resolve) if config.finetune.config else (None, None)
    grid = Grid(
        name=name.rpartition("/")[2].rpartition(":")[2].removesuffix(".py"),
        title=config.title or name,
        paper=config.paper or "",
        axis=config.axis or "",
        classes=config.classes,
        baseline=config.baseline,
        seeds=tuple(range(config.seed, config.seed + count)),
        rows=tuple(rows),
        probe=probe,
        random=random,
        finetune=tuning,
    )
    return grid, Configs(configs, probe_config, tuning_config)


def _stage(part: ConfigDict, kind: str, resolve: Resolve, more: Sequence[str] = ()) -> tuple[Stage, ConfigDict]:
    """A stage of a grid's config, with further fields changed, and its resolved config."""
    fields = (*part.fields, *more)
    plain = resolve(part.config, [])
    resolved = resolve(part.config, [f"--config.{field}" for field in fields])
    check_kind(resolved, kind)
    steps = 0
    if kind != "probe":
        steps = epochs_to_steps(resolved.train.epochs, _videos(resolved), resolved.train.batch_size)
    # New fields of later versions have defaults, so that a grid that has begun keeps its folders.
    folder = _folder(kind, part.config, plain, resolved, resolve(f"{kind}/common", []))
    return Stage(part.config, fields, folder, steps), resolved


def _videos(config: ConfigDict) -> int:
    """How many videos a run trains on; nothing is rendered for it."""
    name = dataset_name(config)
    return len(read_source(config.data.path)) if name is None else int(config.data[name].videos)


def _folder(kind: str, name: str, plain: ConfigDict, resolved: ConfigDict, common: ConfigDict) -> str:
    """A folder's name: for people, what was changed in the named config; and a hash of all that is not the default."""
    before, now, defaults = (_flat(config.to_dict()) for config in (plain, resolved, common))
    own = {field: value for field, value in now.items() if field != "seed" and value != defaults.get(field)}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:8]
    changed = [f"{field.rpartition('.')[2]}={now[field]}" for field in now if now[field] != before.get(field)]
    shown = re.sub(r"[^\w.=,-]+", "_", ",".join([name.replace("/", "_"), *changed]))[:_LONGEST]
    return f"{shown}-{digest}" if kind == "pretrain" else f"{kind}-{digest}"


def _flat(fields: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{section}{name}.") if isinstance(value, Mapping) else {f"{section}{name}": value}
    return flat


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
