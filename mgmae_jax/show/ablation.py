"""The table of a grid of experiments as a picture: each seed a dot, each row its mean and standard error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mgmae_jax.show.confusion import drawable, shorten
from mgmae_jax.show.files import save_figure

_COLOUR, _BASELINE = "#2b5c8a", "#d64523"


class RowFigure(NamedTuple):
    """A figure of a row: the values of its seeds, their mean, and the mean's standard error."""

    row: str
    values: tuple[float, ...]
    mean: float
    error: float


def draw_rows(
    panels: Sequence[tuple[str, Sequence[RowFigure]]], baseline: str, axis: str, title: str, path: Path
) -> None:
    """Draws a panel for each figure of the table.

    Args:
      panels: a heading, and the rows that have the figure.
      baseline: the row that others are compared with, drawn in another colour.
      axis: if not empty, the rows are points on an axis of this name, their names numbers; others are lines across.
      title: above the picture.
      path: a .png file; its folder is created if absent.

    Raises:
      FileError: the file cannot be written.
    """
    count = max((len(rows) for _, rows in panels), default=1)
    size = (4.6 * max(1, len(panels)), 3.2 if axis else 1.2 + 0.36 * count)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (heading, rows) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        _draw_curve(axes, rows, axis) if axis else _draw_list(axes, rows, baseline)
        axes.set_title(drawable(heading), loc="left", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(axis="y" if axis else "x", color="0.9", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(drawable(title), x=0.01, ha="left", fontsize=11)
    save_figure(figure, path)


def _draw_list(axes: Axes, rows: Sequence[RowFigure], baseline: str) -> None:
    for place, row in enumerate(rows):
        colour = _BASELINE if row.row == baseline else _COLOUR
        axes.plot(row.values, [place] * len(row.values), "o", color=colour, ms=4, alpha=0.35, mew=0)
        axes.errorbar(row.mean, place, xerr=row.error, fmt="D", color=colour, ms=5, capsize=3)
    axes.set_yticks(range(len(rows)), [shorten(row.row, 40) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _draw_curve(axes: Axes, rows: Sequence[RowFigure], axis: str) -> None:
    numbers = {row.row: number for row in rows if (number := _number(row.row)) is not None}
    points = sorted((row for row in rows if row.row in numbers), key=lambda row: numbers[row.row])
    for row in points:
        axes.plot([numbers[row.row]] * len(row.values), row.values, "o", color=_COLOUR, ms=4, alpha=0.35, mew=0)
    places, means = [numbers[row.row] for row in points], [row.mean for row in points]
    axes.errorbar(places, means, yerr=[row.error for row in points], fmt="D-", color=_COLOUR, ms=5, capsize=3)
    for row in rows:
        if row.row not in numbers:
            axes.axhline(row.mean, color="0.5", lw=1, ls="--")
            axes.annotate(
                shorten(row.row, 40), (0.02, row.mean), xycoords=("axes fraction", "data"), xytext=(0, 3),
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
    axes.set_xlabel(drawable(axis), fontsize=9)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
