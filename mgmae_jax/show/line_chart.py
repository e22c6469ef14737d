"""Curves as SVG inside a page: no script, colours of the page, and the numbers in words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from mgmae_jax.show.curves import smooth
from mgmae_jax.show.page import text

MOST_LINES = 8
"""How many lines are told apart, by colour and by dashes; the CSS has a class for each."""
_WIDTH, _HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 38
_MOST_POINTS = 300
_SMOOTHED_FROM = 20


class Line(NamedTuple):
    """One curve.

    Args:
      name: what it belongs to, such as the run.
      style: its number among the lines of the page, from 0: its colour and dashes.
      steps: float `[K]`, increasing; K is 1 or more.
      values: finite, `[K]`.
    """

    name: str
    style: int
    steps: np.ndarray
    values: np.ndarray


class Chart(NamedTuple):
    """Curves of one quantity.

    Args:
      title: what is measured, plain text.
      note: its unit or how to read it, plain text, or "".
      smoothed: whether a long curve is smoothed, with the measured values shining through.
      lines: one or more.
    """

    title: str
    note: str
    smoothed: bool
    lines: Sequence[Line]


def line_chart(chart: Chart, number: int) -> str:
    """Draws curves over the steps.

    Args:
      chart: what to draw.
      number: which chart of the page it is.

    Returns:
      A `<figure>`.
    """
    title, note, smoothed, lines = chart
    low, high = value_range(lines, spikes=not smoothed)
    first = min(float(line.steps[0]) for line in lines)
    last = max(float(line.steps[-1]) for line in lines)

    def place(steps: np.ndarray, values: np.ndarray) -> str:
        x = _LEFT + (steps - first) / ((last - first) or 1.0) * (_WIDTH - _LEFT - _RIGHT)
        y = _TOP + (high - np.clip(values, low, high)) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))

    parts = []
    for value in _ticks(low, high):
        y = place(np.array([first]), np.array([value])).split(",")[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{value:g}</text>')
    for step in _ticks(first, last, whole=True) if last > first else [first]:
        x = place(np.array([step]), np.array([low])).split(",")[0]
        parts.append(f'<text x="{x}" y="{_HEIGHT - 19}" text-anchor="middle">{step:g}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">step</text>')
    for line in lines:
        style = f"line{line.style % MOST_LINES}"
        if len(line.values) == 1:
            x, y = place(line.steps, line.values).split(",")
            parts.append(f'<circle class="{style} point" cx="{x}" cy="{y}" r="4"/>')
            continue
        if smoothed and len(line.values) >= _SMOOTHED_FROM:
            parts.append(f'<polyline class="{style} faint" points="{place(*thinned(line.steps, line.values))}"/>')
            curve = smooth(np.clip(line.values, low, high))  # lest a spike widens
        else:
            curve = line.values
        parts.append(f'<polyline class="{style}" points="{place(*thinned(line.steps, curve))}"/>')
    described = "; ".join(in_words(line) for line in lines)
    marks = "\n".join(parts)
    return (
        f'<figure class="chart"><figcaption><b>{text(title)}</b> <span>{text(note)}</span></figcaption>\n'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="t{number} d{number}">'
        f'<title id="t{number}">{text(title)}</title><desc id="d{number}">{text(described)}</desc>\n'
        f"{marks}\n</svg></figure>"
    )


def in_words(line: Line) -> str:
    """What a curve does: where it begins and ends, its lowest and its highest value."""
    values = line.values
    if len(values) == 1:
        return f"{line.name}: {values[0]:.4g} at step {line.steps[0]:g}"
    return (
        f"{line.name}: from {values[0]:.4g} at step {line.steps[0]:g} to {values[-1]:.4g} at step {line.steps[-1]:g}, "
        f"lowest {values.min():.4g}, highest {values.max():.4g}"
    )


def value_range(lines: Sequence[Line], *, spikes: bool) -> tuple[float, float]:
    """The lowest and the highest value that a chart shows.

    Args:
      lines: what it shows.
      spikes: whether rare high values are shown in full; otherwise they lie outside, so as not to flatten the rest.
    """
    values = np.concatenate([line.values for line in lines])
    low, high = float(values.min()), float(values.max())
    usual = max(float(np.percentile(line.values, 95)) for line in lines)  # a short run may lie above a long one
    if not spikes and len(values) >= _SMOOTHED_FROM and high - low > 3 * (usual - low) > 0:
        high = usual + 0.1 * (usual - low)
    room = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return (0.0 if 0 <= low < 0.5 * high else low - room), high + room


def thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve of at most as many points as can be told apart: in each stretch its lowest and its highest, in order."""
    if len(steps) <= _MOST_POINTS:
        return steps, values
    kept = [0, len(steps) - 1]
    for part in np.array_split(np.arange(len(steps)), _MOST_POINTS // 2 - 1):
        kept += [part[values[part].argmin()], part[values[part].argmax()]]
    index = np.unique(kept)
    return steps[index], values[index]


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    ticks = MaxNLocator(nbins=5, integer=whole).tick_values(low, high)
    return [float(f"{tick:.12g}") for tick in ticks if low <= tick <= high]
