"""What commands write, tried before they compute for hours."""

import tempfile
from pathlib import Path

from mgmae_jax.errors import FileError
from mgmae_jax.runtime.files import REMEDY


def make_folder(folder: Path) -> None:
    """Makes a folder, and a file in it that is gone again.

    Raises:
      FileError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(folder, f"cannot be written ({error.strerror or error}): {REMEDY}") from error


def check_plot(path: Path) -> None:
    """Checks that a plot can be written under that name.

    Raises:
      FileError: the ending is not one of a plot.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise FileError(path, "a plot is written as .png, .svg or .pdf; give a name with one of these extensions.")
