"""Checks of fields that several trainers share."""

import pytest
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import COMMON, load_config
from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.config_checks import profile_steps
from mgmae_jax.train.finetune import check_finetuning
from mgmae_jax.train.flow import check_flow_config
from mgmae_jax.train.pretrain import check_pretraining

CHECKS = {"pretrain": check_pretraining, "finetune": check_finetuning, "flow": check_flow_config}


@pytest.mark.parametrize(("value", "steps"), [("", None), ("100:105", (100, 105)), ("1:2", (1, 2))])
def test_the_steps_to_trace(value: str, steps: tuple[int, int] | None):
    assert profile_steps(ConfigDict({"train": {"profile_steps": value}})) == steps


def test_a_config_of_before_there_was_a_trace_has_none():
    assert profile_steps(ConfigDict({"train": {}})) is None


@pytest.mark.parametrize("value", ["100", "5:5", "5:3", "0:3", "-1:3", "1:2:3", "a:b", "1.5:3", " 1:2", ":", "1:"])
def test_steps_that_are_not_two_in_order_are_named(value: str):
    with pytest.raises(ConfigError, match=f"config.train.profile_steps='{value}': give A:B, two steps with 0 < A < B"):
        profile_steps(ConfigDict({"train": {"profile_steps": value}}))


@pytest.mark.parametrize("kind", CHECKS)
def test_every_trainer_checks_them(kind: str):
    with pytest.raises(ConfigError, match=r"config.train.profile_steps='5': give"):
        CHECKS[kind](load_config(COMMON[kind], ["--config.train.profile_steps=5"]))
