"""Accuracy by class of two models, as bars (the paper's Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mgmae_jax.errors import FileError
from mgmae_jax.show.confusion import drawable, shorten
from mgmae_jax.show.files import save_figure

_BETTER, _WORSE = "#2b5c8a", "#d64523"


def draw_class_differences(
    classes: Sequence[tuple[str, int, float]], names: tuple[str, str], title: str, path: Path
) -> None:
    """Draws a bar for each class.

    Args:
      classes: name, number of videos, and how much more accurate the second model is, in percentage points.
      names: the names of the two models.
      title: the title above the picture.
      path: a .png, .svg or .pdf file; its folder is created if absent.

    Raises:
      FileError: the suffix is a different one, or the file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise FileError(path, "is drawn as .png, .svg or .pdf; give a name with one of these extensions.")
    figure = Figure(figsize=(9, 1.7 + 0.27 * max(len(classes), 3)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    values = [value for *_, value in classes]
    axes.barh(range(len(classes)), values, height=0.72, color=[_BETTER if v > 0 else _WORSE for v in values])
    axes.set_yticks(
        range(len(classes)), [f"{shorten(name, 52)}  ({videos})" for name, videos, _ in classes], fontsize=8
    )
    for row, value in enumerate(values):
        axes.annotate(
            f"{value:+.1f}", (value, row), xytext=(3 if value > 0 else -3, 0), textcoords="offset points",
            ha="left" if value > 0 else "right", va="center", fontsize=7.5,
        )  # fmt: skip
    reach = 1.18 * max((abs(value) for value in values), default=1.0)
    lowest, highest = min(values, default=-1.0), max(values, default=1.0)
    axes.set_xlim(-reach if lowest < 0 else -0.05 * reach, reach if highest > 0 else 0.05 * reach)
    axes.set_ylim(max(len(values), 1) - 0.4, -0.6)
    axes.axvline(0, color="0.3", lw=0.8)
    axes.set_xlabel(
        drawable(f"top-1 of the class, percentage points:  right, {names[1]} is better;  left, {names[0]} is better"),
        fontsize=9,
    )
    axes.set_title(drawable(title), loc="left", fontsize=11)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if not classes:
        axes.text(0.5, 0.5, "no class differs", ha="center", transform=axes.transAxes)
    save_figure(figure, path)
