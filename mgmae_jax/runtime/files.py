"""Files written whole or not at all; no jax here, data workers write some."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgmae_jax.errors import FileError

REMEDY = "give a folder that you can write to, with room"


@contextlib.contextmanager
def whole_file(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `path` when the block ends without an error.

    A reader never sees half a file, and two writers never mix theirs.

    Args:
      path: the file to write; its folder is made if absent.
      remedy: what the user can do where it cannot be written.

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
    """Writes a text file whole or not at all, in UTF-8; names of files that are not UTF-8 come back as they were.

    Args:
      path: the file.
      text: all of it; line ends stay as they are.
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
