"""Options that several commands share."""

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.runtime.distributed import FLAG, START_TIMEOUT_S
from mgmae_jax.runtime.paths import local_path, local_text, source_path
from mgmae_jax.runtime.run_info import ALLOW_CHANGE

OVERRIDE = "--config."
"""How an argument begins that changes a field of the config."""
_MAX_SECONDS = 7 * 24 * 3600


def command_parser(name: str, doc: str | None, epilog: str) -> argparse.ArgumentParser:
    """The parser of `mgmae NAME`, without options yet.

    Args:
      name: the command, "bench flow" for example.
      doc: what it does, the docstring of its module.
      epilog: examples that work, and what else there is to know.
    """
    return argparse.ArgumentParser(
        f"mgmae {name}", description=doc, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def parse_with_overrides(command: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of a command, and the arguments that change fields of its config.

    These are taken out before argparse sees them, which takes an option that it does not know for a value of another
    one if it holds a space: "--config.data.path=/my videos".

    Args:
      command: the parser.
      argv: the arguments.

    Returns:
      The options; then every "--config.FIELD=VALUE", and after them the arguments that the parser does not know, which
      `check_flags` refuses.
    """
    overrides = [word for word in argv if word.startswith(OVERRIDE)]
    args, unknown = command.parse_known_args([word for word in argv if not word.startswith(OVERRIDE)])
    return args, [*overrides, *unknown]


def training_parser(name: str, doc: str | None, epilog: str, *, keeps: str) -> argparse.ArgumentParser:
    """The parser of a command that trains: with --config, --workdir and --start-timeout.

    Args:
      name: the command.
      doc: see `command_parser`.
      epilog: see `command_parser`.
      keeps: what the workdir holds.
    """
    command = command_parser(name, doc, epilog)
    command.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    command.add_argument("--workdir", required=True, type=path_option("--workdir"), help=f"folder for {keeps}")
    command.add_argument(
        ALLOW_CHANGE,
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD",
        help="resume with other values of these fields of the config (optim.lr, train.epochs), or of video_list",
    )
    add_start_timeout(command)
    return command


def add_start_timeout(command: argparse.ArgumentParser) -> None:
    """Adds --start-timeout, for a command that calls `initialize`."""
    text = f"seconds that the processes of a run wait for each other at its start (default {START_TIMEOUT_S:g})"
    command.add_argument(FLAG, type=seconds, default=START_TIMEOUT_S, metavar="SECONDS", help=text)


def seconds(value: str) -> float:
    """The `type` of an argument that is a time of up to a week.

    Raises:
      ArgumentTypeError: it is not.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{value!r}: give a number of seconds above 0, at most {_MAX_SECONDS}")
    return number


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from `least` on."""

    def parse(value: str) -> int:
        if not value.strip().isdecimal() or int(value) < least:
            raise argparse.ArgumentTypeError(f"{value!r}: give a whole number of {least} or more")
        return int(value)

    return parse


def path_option(name: str) -> Callable[[str], Path]:
    """The `type` of an argument that is a local path: `~` is expanded, and a remote path is an error.

    Args:
      name: the flag, or what the help calls a positional argument.
    """
    return functools.partial(local_path, name=name)


def text_option(name: str) -> Callable[[str], str]:
    """As `path_option`, for a path that becomes the value of a config field, and keeps its text.

    Args:
      name: the flag.
    """
    return functools.partial(local_text, name=name)


def source_option(name: str) -> Callable[[str], str]:
    """The `type` of an argument that says where videos are: as `path_option`, but a bucket may be read.

    Args:
      name: the flag, or what the help calls a positional argument.
    """
    return functools.partial(source_path, name=name)
