import os
import re
import subprocess
import sys

import pytest

import mgmae_jax
from mgmae_jax.cli import COMMANDS, main


@pytest.mark.parametrize("flag", ["--help", "-h", "help"])
def test_help_lists_every_command(capsys: pytest.CaptureFixture, flag: str):
    assert main([flag]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name}\s+{help_text}$", text, re.MULTILINE) for name, help_text in COMMANDS.items())


def test_version(capsys: pytest.CaptureFixture):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mgmae-jax {mgmae_jax.__version__}\n"


def test_without_a_command_it_shows_how():
    assert main([]) == 2


def test_a_variable_that_jax_rejects_is_told_in_a_line():
    env = os.environ | {"JAX_ENABLE_X64": "maybe"}
    command = [sys.executable, "-m", "mgmae_jax.cli", "pretrain", "--help"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr == (
        "\nmgmae pretrain: the environment has a variable that JAX rejects: invalid truth value 'maybe' for "
        "environment 'JAX_ENABLE_X64'. Change or unset it.\n"
    )


def test_an_unknown_command_is_named_and_the_others_are_listed(capsys: pytest.CaptureFixture):
    assert main(["pretrian"]) == 2
    errors = capsys.readouterr().err
    assert "there is no command 'pretrian'" in errors
    assert "pretrain" in errors
