"""Options that several commands share."""

import argparse
from pathlib import Path

from mgmae_jax.commands.config_names import CONFIG_HELP


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


def training_parser(name: str, doc: str | None, epilog: str, *, keeps: str) -> argparse.ArgumentParser:
    """The parser of a command that trains: with --config and --workdir.

    Args:
      name: the command.
      doc: see `command_parser`.
      epilog: see `command_parser`.
      keeps: what the workdir holds.
    """
    command = command_parser(name, doc, epilog)
    command.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    command.add_argument("--workdir", required=True, type=Path, help=f"folder for {keeps}")
    return command
