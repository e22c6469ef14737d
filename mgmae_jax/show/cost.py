"""What ways of masking cost, against how far their masks are those of a reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mgmae_jax.errors import FileError
from mgmae_jax.show.files import writing

_COLOUR = "#2b5c8a"


def draw_cost(points: Mapping[str, tuple[float, float]], reference: str, path: Path) -> None:
    """Draws one named point for each way.

    Args:
      points: by name, milliseconds a clip, and the share of the visible tokens in common with the reference.
      reference: the reference's name.
      path: a .png, .svg or .pdf file; its folder is created if absent.

    Raises:
      FileError: the suffix is a different one, or the file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise FileError(path, "a plot is written as .png, .svg or .pdf; give a name with one of these extensions.")
    figure = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (cost, shared) in points.items():
        axes.plot(cost, shared, marker="o", color=_COLOUR)
        axes.annotate(name, (cost, shared), textcoords="offset points", xytext=(6, 4), fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.35, y=0.15)
    axes.set_xlabel("flow and masks, ms a clip", fontsize=9)
    axes.set_ylabel(f"visible tokens in common with {reference}", fontsize=9)
    axes.grid(color="0.9", lw=0.6)
    with writing(path):
        figure.savefig(path)
