"""Checks of config fields shared by several rooms: a wrong value is a ConfigError before anything starts."""

import math
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter

import jax.numpy as jnp
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError

# The fields of every trainer's config that have a minimum.
TRAINER_MINIMA: Mapping[str, float] = {
    "seed": 0,
    "optim.min_lr": 0,
    "optim.weight_decay": 0,
    "train.log_every": 1,
    "train.max_bad_steps": 1,
    "checkpoint.every": 1,
    "checkpoint.keep": 1,
}
# Those of a trainer on videos in addition.
CLIP_MINIMA: Mapping[str, float] = {
    **TRAINER_MINIMA,
    "clip.stride": 1,
    "data.views": 1,
    "data.workers": 0,
    "data.max_bad_fraction": 0,
    "optim.warmup_epochs": 0,
    "train.batch_size": 1,
    "train.accumulate": 1,
}


def kind_of(config: ConfigDict) -> str:
    """What a config is for, such as "pretrain" or "probe"; also for an old config without a kind."""
    if "kind" in config:
        return config.kind
    if "probe" in config:
        return "probe"
    if "classes" in config.get("model", {}):
        return "finetune"
    return "pretrain" if "mask" in config else "flow"


def check_kind(config: ConfigDict, kind: str) -> None:
    """Checks that a config is meant for the command that it was given to.

    Raises:
      ConfigError: it is meant for another.
    """
    if kind_of(config) != kind:
        raise ConfigError("kind", kind_of(config), f"a config of kind {kind!r}, such as those in configs/{kind}")


def check_minima(config: ConfigDict, minima: Mapping[str, float]) -> None:
    """Checks that each field, by dotted name, is finite and at least its minimum.

    Raises:
      ConfigError: a field is not.
    """
    for field, least in minima.items():
        value = attrgetter(field)(config)
        if not least <= value < math.inf:
            raise ConfigError(field, value, f"{least} or more")


def check_positive(config: ConfigDict, *fields: str) -> None:
    """Checks that each field, by dotted name, is finite and above 0.

    Raises:
      ConfigError: a field is not.
    """
    for field in fields:
        if not 0 < attrgetter(field)(config) < math.inf:
            raise ConfigError(field, attrgetter(field)(config), "a number above 0")


def check_shares(config: ConfigDict, *fields: str) -> None:
    """Checks that each field, by dotted name, is at least 0 and below 1.

    Raises:
      ConfigError: a field is not.
    """
    for field in fields:
        if not 0 <= attrgetter(field)(config) < 1:
            raise ConfigError(field, attrgetter(field)(config), "a number from 0 to below 1")


def check_one_of(config: ConfigDict, field: str, allowed: Sequence[str]) -> None:
    """Checks that a field, by dotted name, has one of the allowed values.

    Raises:
      ConfigError: it has another value.
    """
    value = attrgetter(field)(config)
    if value not in allowed:
        raise ConfigError(field, value, "one of " + ", ".join(allowed))


def check_accumulation(config: ConfigDict) -> None:
    """Checks that the clips of a step can be divided into `train.accumulate` parts.

    Raises:
      ConfigError: they cannot.
    """
    clips = config.train.batch_size * config.data.views
    if clips % config.train.accumulate:
        raise ConfigError("train.accumulate", config.train.accumulate, f"a divisor of the {clips} clips of a step")


def profile_steps(config: ConfigDict) -> tuple[int, int] | None:
    """The first and the last step of `train.profile_steps`, "A:B"; None if it is empty or a config of old lacks it.

    Raises:
      ConfigError: it is something else.
    """
    value = config.train.get("profile_steps", "")
    if not value:
        return None
    steps = re.fullmatch(r"([0-9]{1,15}):([0-9]{1,15})", value)
    if not steps or not 0 < int(steps[1]) < int(steps[2]):
        raise ConfigError("train.profile_steps", value, "A:B, two steps with 0 < A < B, such as 100:105, or nothing")
    return int(steps[1]), int(steps[2])


def parse_dtype(field: str, name: str) -> jnp.dtype:
    """The dtype called float32 or bfloat16.

    Raises:
      ConfigError: `name`, the value of config.FIELD, is neither.
    """
    allowed = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name not in allowed:
        raise ConfigError(field, name, "one of " + ", ".join(allowed))
    return jnp.dtype(allowed[name])
