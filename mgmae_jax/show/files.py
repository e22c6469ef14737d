"""Where pictures are written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mgmae_jax.errors import FileError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Creates the path's folder if absent, for a block that writes the file.

    Raises:
      FileError: the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error}); give a path in a folder that you can write to."
        raise FileError(path, reason) from error
