"""Why a checkpoint could not be read: it is damaged, or the file system or the memory failed at that moment."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mgmae_jax.errors import FileError

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)  # a part of the checkpoint is not there
_NUMBER = re.compile(r"OS error (\d+)")  # in what TensorStore says


class DamagedCheckpointError(FileError):
    """A checkpoint cannot be read, now or later."""


def reading_error(path: Path, error: Exception) -> Exception:
    """What to raise when reading a checkpoint raised `error`.

    Returns:
      A MemoryError if the memory of the host or of a device did not suffice; a plain FileError if the file system
      failed, since reading may succeed later; else a DamagedCheckpointError.
    """
    for cause in _causes(error):
        number = _error_number(cause)
        if number is not None and number not in _MISSING:
            told = f"cannot be read now ({os.strerror(number)}): see why, and run the same command again."
            return FileError(path, told)
        if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in str(cause):
            return MemoryError(f"{path}: {first_line(cause)}")
    told = f"is damaged ({first_line(error)}): move it away to use the checkpoint before it."
    return DamagedCheckpointError(path, told)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return re.split(r"\n| \[", str(error), maxsplit=1)[0][:300] or type(error).__name__


def _error_number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
