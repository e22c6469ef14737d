"""What ways of masking cost, against how far their masks are those of a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mgmae_jax.errors import FileError
from mgmae_jax.show.confusion import drawable
from mgmae_jax.show.files import save_figure

_COLOURS = colormaps["tab10"].resampled(10)
_MARKERS = "os^Dv"


class CostPoint(NamedTuple):
    """One measurement of a way.

    Attributes:
      cost: milliseconds a clip.
      shared: the share of the visible tokens in common with the reference.
      label: what tells it from the way's other points.
    """

    cost: float
    shared: float
    label: str = ""


def draw_cost(points: Mapping[str, Sequence[CostPoint]], reference: str, path: Path) -> None:
    """Draws the points of each way, joined, and its name in a legend.

    Args:
      points: by name.
      reference: the reference's name.
      path: a .png, .svg or .pdf file; its folder is created if absent.

    Raises:
      FileError: the suffix is a different one, or the file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise FileError(path, "a plot is written as .png, .svg or .pdf; give a name with one of these extensions.")
    figure = Figure(figsize=(7.6, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, (name, own) in enumerate(points.items()):
        colour, marker = _COLOURS(index % 10), _MARKERS[index // 10 % len(_MARKERS)]
        cost, shared = [one.cost for one in own], [one.shared for one in own]
        axes.plot(cost, shared, marker=marker, color=colour, lw=0.8, label=drawable(name))
        for point in own:
            axes.annotate(
                drawable(point.label), point[:2], textcoords="offset points", xytext=(5, 4), fontsize=7, color=colour
            )
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(FuncFormatter(_digits))
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel("flow and masks, ms a clip", fontsize=9)
    axes.set_ylabel(drawable(f"visible tokens in common with {reference}"), fontsize=9)
    axes.grid(color="0.9", lw=0.6)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    save_figure(figure, path)


def _digits(value: float, _: object) -> str:
    """A tick of the logarithmic axis, where it begins with 1, 2 or 5."""
    text = f"{value:.6g}"
    return text if text.strip("0.") in ("1", "2", "5") else ""
