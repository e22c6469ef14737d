import os
import re
import subprocess
import sys
import types

import pytest

import mgmae_jax
from mgmae_jax import cli
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


def test_an_interruption_while_a_command_loads_is_told(monkeypatch: pytest.MonkeyPatch, capsys):
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(cli, "set_xla_flags", lambda environ: None)
    assert main(["visualize"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize(
    ("command", "error", "status", "told"),
    [
        ("pretrain", KeyboardInterrupt(), 130, "interrupted; the same command resumes from the last checkpoint"),
        ("prepare", KeyboardInterrupt(), 130, "interrupted; the same command resumes after what is done"),
        ("visualize", KeyboardInterrupt(), 130, "interrupted"),
        (
            "evaluate",
            MemoryError("Unable to allocate 2 GiB\nmore"),
            1,
            "mgmae evaluate: out of memory (Unable to allocate 2 GiB). Give fewer clips a device "
            "(eval.clips_per_device).",
        ),
        ("prepare", MemoryError(), 1, "mgmae prepare: out of memory (MemoryError)."),
    ],
)
def test_what_ended_a_command_is_told_with_advice_that_fits_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, command: str, error, status: int, told: str
):
    def fails(argv: list[str]) -> None:
        raise error

    monkeypatch.setitem(sys.modules, f"mgmae_jax.commands.{command}", types.SimpleNamespace(main=fails))
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(cli, "set_xla_flags", lambda environ: None)
    assert main([command]) == status
    assert capsys.readouterr().err == f"\n{told}\n"


def test_advice_is_for_commands_that_there_are():
    assert {*cli.RESUMES, *cli.MORE_MEMORY} <= set(COMMANDS)


def test_an_unknown_command_is_named_and_the_others_are_listed(capsys: pytest.CaptureFixture):
    assert main(["pretrian"]) == 2
    errors = capsys.readouterr().err
    assert "there is no command 'pretrian'" in errors
    assert "pretrain" in errors
