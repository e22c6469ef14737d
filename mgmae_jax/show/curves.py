"""Training curves from a run's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mgmae_jax.errors import FileError
from mgmae_jax.show.files import save_figure

_PANELS = {
    "loss": "loss",
    "lr": "learning rate",
    "clips_per_second": "clips per second",
    "grad_norm": "gradient norm",
}
_COLOUR = "#2b5c8a"
_MOST_SMOOTHED = 5000  # points; of more, means of neighbours are smoothed, each of far less than the average's width


def draw_curves(metrics: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Draws loss, learning rate, speed and gradient norm over the steps.

    Args:
      metrics: one mapping per logged step, in any order, with "step" and any of "loss", "lr", "clips_per_second" and
        "grad_norm"; absent, null and non-finite values leave a gap, and a curve without values is left out.
      path: a .png, .svg or .pdf file; its folder is created if absent.

    Raises:
      FileError: there is nothing to draw, the suffix is a different one, or the file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise FileError(path, "curves are written as .png, .svg or .pdf; give a name with one of these extensions.")
    metrics = list(metrics)
    series = {key: points for key in _PANELS if len((points := series_of(metrics, key))[0])}
    if not series:
        raise FileError(path, f"no curve to draw: none of the {len(metrics)} metrics has any of {', '.join(_PANELS)}.")
    columns = min(2, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.1 * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    for i, (key, (steps, values)) in enumerate(series.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        smoothed = key != "lr" and len(values) >= 20
        axes.plot(
            steps, values, color=_COLOUR, lw=1.0 if smoothed else 1.6, alpha=0.3 if smoothed else 1.0,
            marker="o" if len(values) == 1 else None,
        )  # fmt: skip
        if smoothed:
            axes.plot(steps, smooth(values), color=_COLOUR, lw=1.8)
        if smoothed and key != "loss":
            axes.set_ylim(0.0, 1.15 * np.percentile(values, 99))  # compilation and early spikes would flatten the rest
        axes.set_title(_PANELS[key], loc="left", fontsize=11)
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="0.9", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def series_of(metrics: Iterable[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one metric, by step."""
    points = sorted((m["step"], m[key]) for m in metrics if m.get("step") is not None and m.get(key) is not None)
    steps, values = np.asarray(points, np.float64).reshape(-1, 2).T
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def smooth(values: np.ndarray) -> np.ndarray:
    """Gaussian average over a fiftieth of the points, weighted anew at the ends so that they are not pulled to zero."""
    if len(values) > _MOST_SMOOTHED:  # the time grows with the square
        parts = np.array_split(np.asarray(values, np.float64), _MOST_SMOOTHED)
        counts = np.array([len(part) for part in parts])
        means = np.array([part.mean() for part in parts])
        return np.interp(np.arange(len(values)), np.cumsum(counts) - (counts + 1) / 2, smooth(means))
    sigma = len(values) / 50
    reach = int(4 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, reach)
    weights = np.pad(np.ones_like(values), reach)
    return np.convolve(padded, kernel, "valid") / np.convolve(weights, kernel, "valid")
