"""Matplotlib's figures, written to files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from mgmae_jax.runtime.files import whole_file


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the path's suffix, whole or not at all, and creates the folder if absent.

    Raises:
      FileError: the file cannot be written.
    """
    with whole_file(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower())
