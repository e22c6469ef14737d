"""What is printed into a pipe that nobody reads, as with `| head -1`."""

import os
import subprocess
import sys

import pytest

PRINTS = """
import sys, types
from mgmae_jax.cli import main
prints = types.SimpleNamespace(main=lambda argv: {})
sys.modules["mgmae_jax.commands.plan"] = prints
sys.exit(main(["plan"]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "mgmae_jax.cli", "--help"],
        ["-m", "mgmae_jax.cli", "--version"],
        ["-c", PRINTS.format("print('now', flush=True)")],
        ["-c", PRINTS.format("print('at the end')")],
        ["-c", PRINTS.format("print('x' * 100_000)")],
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_it_ends_without_a_traceback(words: list[str], unbuffered: str):
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, *words], env=env, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120
        )
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_help_of_a_command_ends_without_a_traceback():
    """argparse itself says nothing of a pipe that breaks at once, without a buffer."""
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "mgmae_jax.cli", "check-data", "--help"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        ended = subprocess.run(words, env=env, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_another_pipe_that_breaks_is_an_error():
    code = PRINTS.format("exec('raise BrokenPipeError(32, \"of a worker\")')")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "BrokenPipeError: [Errno 32] of a worker" in ended.stderr
