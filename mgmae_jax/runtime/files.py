"""Files written whole or not at all; no jax here, since data workers write some."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgmae_jax.errors import FileError

REMEDY = "give a writable folder with free space"


@contextlib.contextmanager
def whole_file(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """Yields a path to write to, which replaces `path` when the block ends without an error.

    A reader never sees half a file, and two writers never mix theirs.

    Args:
      path: the file to write; its folder is created if absent.
      remedy: what the user can do if it cannot be written.

    Raises:
      FileError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror or error}): {remedy}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, remedy: str = REMEDY) -> None:
    """Writes a text file whole or not at all, in UTF-8; file names that are not UTF-8 are kept unchanged.

    Args:
      path: the file.
      text: the whole text; line ends are not changed.
      remedy: see `whole_file`.

    Raises:
      FileError: it cannot be written.
    """
    with whole_file(path, remedy) as partial:
        partial.write_bytes(text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
      FileError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=indent) + "\n")


def read_object(path: Path, what: str = "", remedy: str = "") -> dict[str, Any]:
    """The JSON object in a file.

    Args:
      path: the file.
      what: what an error says that it cannot be read as.
      remedy: how an error ends.

    Raises:
      FileError: there is no such file, or something else is in it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot be read{what and f' as {what}'} ({error}){remedy}") from error
    return value
