"""Which process runs a cell: the one that holds the lock of its folder, or a child of it that outlived it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from mgmae_jax.errors import FileError, InUseError
from mgmae_jax.runtime.session import LOCK, locked


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[int | None]:
    """Claims a cell's folder for this process, until the block and the children that inherit the lock have ended.

    Yields:
      The lock's file descriptor; None if another process has the cell.

    Raises:
      FileError: the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(folder, "--out"))
        except InUseError:
            lock = None
        yield lock


def is_orphan(folder: Path) -> bool:
    """Whether a cell that is in use was claimed by a process of this machine that has ended: its child is saving."""
    try:
        text = (folder / LOCK).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    holder = re.fullmatch(r"process (\d+) on (.+)\n", text)
    if holder is None or holder[2] != socket.gethostname():
        return False
    try:
        os.kill(int(holder[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


@contextlib.contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Holds a lock file, after waiting for whoever holds it.

    Raises:
      FileError: the file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error}): give an --out that you can write to"
        raise FileError(path, reason) from error
    with file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
