"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from mgmae_jax.show.files import save_figure

_NUMBERED = 24  # classes up to which the cells hold numbers
_NAMED = 200  # classes up to which rows and columns have names
_LONGEST = 40  # characters of a name
_DPI = 120
_MAX_SIDE = 40  # inches, for thousands of classes


def shorten(name: str, length: int = _LONGEST) -> str:
    """The name, shortened with an ellipsis, as `drawable` gives it."""
    return drawable(name if len(name) <= length else name[: length - 1].rstrip() + "…")


def drawable(text: str) -> str:
    """The text as Matplotlib draws it unchanged, but for a question mark in place of each byte that is not UTF-8.

    Between two dollar signs Matplotlib would expect a formula.
    """
    return text.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")


def draw_confusion(matrix: np.ndarray, names: Sequence[str], title: str, path: Path) -> None:
    """Draws which class is predicted for which: a row for each true class, its shares in per cent.

    Args:
      matrix: int [C, C], videos by class (row) and prediction (column).
      names: the classes' names.
      title: the title above the picture.
      path: a .png file; its folder is created if absent.

    Raises:
      FileError: the file cannot be written.
    """
    classes = len(names)
    named = classes <= _NAMED
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares[matrix.sum(axis=1) == 0] = np.nan  # no videos is not the same as no hits
    cell = 0.42 if classes <= _NUMBERED else 0.16 if named else 0.02
    side = min(max(4.0, cell * classes), _MAX_SIDE)
    font = 9 if classes <= _NUMBERED else 6.5
    margin = 0.075 * font / 9 * max(len(shorten(name)) for name in names) if named else 0.3
    figure = Figure(figsize=(side + margin + 1.6, side + margin + 1.0), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("0.85")
    # With many classes the confusions are faint, and a square-root scale shows them.
    norm = PowerNorm(1.0 if classes <= _NUMBERED else 0.5, vmin=0, vmax=100)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    heading = max(11.0, 0.6 * side)
    axes.set_xlabel("predicted" if named else "predicted, class number", fontsize=heading)
    axes.set_ylabel("true class" if named else "true class, number", fontsize=heading)
    axes.set_title(drawable(title), loc="left", fontsize=heading)
    if named:
        labels = [shorten(name) for name in names]
        axes.set_xticks(range(classes), labels, rotation=90, fontsize=font)
        axes.set_yticks(range(classes), labels, fontsize=font)
        axes.tick_params(length=0)
    if classes <= _NUMBERED:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            share = shares[row, column]
            axes.text(
                column, row, f"{share:.0f}", ha="center", va="center", fontsize=8,
                color="white" if share > 55 else "black",
            )  # fmt: skip
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 4 / side), aspect=25)
    bar.set_label("% of the true class's videos", fontsize=0.8 * heading)
    bar.ax.tick_params(labelsize=0.8 * heading)
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    save_figure(figure, path)
