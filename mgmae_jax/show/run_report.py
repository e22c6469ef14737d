"""The report of one or more runs as a page: curves, previews, what their configs differ in, evaluations, machines."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mgmae_jax.show.curves import series_of
from mgmae_jax.show.images import image_uri
from mgmae_jax.show.line_chart import MOST_LINES, Chart, Line, line_chart
from mgmae_jax.show.page import page, scrolling, table, text

# In the order of the page: a metric with its title, its unit or how to read it, and whether noise is smoothed.
CHARTS = {
    "loss": ("Loss", "mean since the point before", True),
    "lr": ("Learning rate", "of the step", False),
    "grad_norm": ("Gradient norm", "over all parameters", True),
    "clips_per_second": ("Throughput", "clips per second, all devices", True),
    "data_wait_share": ("Data wait", "share of the time", False),
    "memory_gib": ("Memory", "GiB, highest so far", False),
}
# What says nothing that these do not.
_LEFT_OUT = {"step", "step_seconds", "bad_in_row", "bad_steps"}
_ABSENT = "\u2013"
_PREVIEW_WIDTH = 1080
_MOST_CLASSES = 60


class Evaluation(NamedTuple):
    """An evaluation with labels.

    Args:
      name: which one, such as the step of its checkpoint.
      videos: how many were counted.
      missing: how many could not be read.
      accuracies: by name, each with the ends of its confidence interval, from 0 to 1.
      classes: by name, how many videos it has and how many were recognised.
    """

    name: str
    videos: int
    missing: int
    accuracies: Mapping[str, tuple[float, float, float]]
    classes: Sequence[tuple[str, int, int]]


@dataclasses.dataclass(frozen=True)
class ShownRun:
    """What a report shows of a run.

    Args:
      name: what it is called.
      metrics: one mapping per logged step, with "step".
      measured: metrics that were measured at intervals, by what they are: "accuracy", "validation".
      config: its fields by dotted name, each value as text.
      about: what run.json holds.
      previews: the number of steps done and a picture, in order.
      guesses: the errors of guesses without a network, by name; or empty.
      evaluations: in order.
    """

    name: str
    metrics: Sequence[Mapping[str, float]]
    measured: Mapping[str, Sequence[Mapping[str, float]]]
    config: Mapping[str, str]
    about: Mapping[str, Any]
    previews: Sequence[tuple[int, Image.Image]]
    guesses: Mapping[str, float]
    evaluations: Sequence[Evaluation]


def report_page(runs: Sequence[ShownRun]) -> str:
    """The page of one or more runs; see `page.page`."""
    title = f"Report of {runs[0].name}" if len(runs) == 1 else f"Report of {len(runs)} runs"
    sections: dict[str, Callable[[Sequence[ShownRun]], str]] = {
        "Overview": overview,
        "Curves": curves,
        "Previews": previews,
        "Differences of the configs": differences,
        "Guesses without a network": guesses,
        "Evaluations": evaluations,
        "Environment": environment,
        "Configs": configs,
    }
    made = {name: markup for name, section in sections.items() if (markup := section(runs))}
    links = "".join(f'<li><a href="#{_anchor(name)}">{text(name)}</a></li>' for name in made)
    parts = [
        f'<section><h2 id="{_anchor(name)}">{text(name)}</h2>\n{markup}</section>' for name, markup in made.items()
    ]
    body = [
        f"<header><h1>{text(title)}</h1>",
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>',
        "<main>",
        *parts,
        "</main>",
    ]
    return page(title, "\n".join(body), styles=("page.css", "report.css"))


def overview(runs: Sequence[ShownRun]) -> str:
    """One line for each run: how far it came, and its last numbers."""
    rows = []
    for run in runs:
        steps = str(int(max(line["step"] for line in run.metrics))) if run.metrics else _ABSENT
        tail = [_number(_last(run.metrics, key)) for key in ("loss", "grad_norm")]
        speed = [_number(_median(run.metrics, key)) for key in ("clips_per_second", "data_wait_share")]
        rows.append([run.name, run.config.get("kind", _ABSENT).strip('"'), steps, *tail, *speed])
    head = ["run", "kind", "steps", "last loss", "last gradient norm", "clips/s, median", "data wait, median"]
    return table(head, rows, label="Overview of the runs")


def curves(runs: Sequence[ShownRun]) -> str:
    """A chart for each metric, with a line for each run that has it."""
    charts: list[Chart] = []
    for name in _metric_names(run.metrics for run in runs):
        title, note, smoothed = CHARTS.get(name, (name.replace("_", " ").capitalize(), "", True))
        charts.append(Chart(title, note, smoothed, _lines(runs, [run.metrics for run in runs], name)))
    for what in dict.fromkeys(what for run in runs for what in run.measured):
        of_runs = [run.measured.get(what, []) for run in runs]
        for name in _metric_names(of_runs):
            charts.append(Chart(f"{what.capitalize()}: {name}", "", False, _lines(runs, of_runs, name)))
    charts = [chart for chart in charts if chart.lines]
    if not charts:
        return ""
    drawn = "\n".join(line_chart(chart, number) for number, chart in enumerate(charts))
    return f'{_legend(runs)}<div class="charts">\n{drawn}\n</div>{_numbers(charts)}'


def previews(runs: Sequence[ShownRun]) -> str:
    """The strips of each run in order of time."""
    parts = []
    for run in runs:
        for step, picture in run.previews:
            words = f"{run.name}, step {step}"
            described = f"{words}: frames of a clip over time, with what its mask and its reconstruction look like"
            image = f'<img src="{image_uri(picture, _PREVIEW_WIDTH)}" alt="{text(described)}">'
            parts.append(
                f'<figure class="strip"><figcaption>{text(words)}</figcaption>{scrolling(image, words)}</figure>'
            )
    return "\n".join(parts)


def differences(runs: Sequence[ShownRun]) -> str:
    """The fields that are not the same in all runs."""
    if len(runs) == 1:
        return ""
    fields = dict.fromkeys(field for run in runs for field in run.config)
    differing = [name for name in fields if len({run.config.get(name) for run in runs}) > 1]
    if not differing:
        return "<p>The runs have the same config.</p>"
    rows = [[name, *(run.config.get(name, _ABSENT) for run in runs)] for name in differing]
    return table(["field", *(run.name for run in runs)], rows, label="Fields that differ")


def guesses(runs: Sequence[ShownRun]) -> str:
    """The error of a pre-training run beside those of guesses without a network."""
    shown = [run for run in runs if run.guesses]
    if not shown:
        return ""
    names = dict.fromkeys(name for run in shown for name in run.guesses)
    rows = [[name.replace("_", " "), *(_number(run.guesses.get(name)) for run in shown)] for name in names]
    note = '<p class="note">Mean squared error of the hidden cubes, predicted by the network and by simple guesses.</p>'
    return note + table(["predicted by", *(run.name for run in shown)], rows, label="Errors of guesses")


def evaluations(runs: Sequence[ShownRun]) -> str:
    """Accuracies with their intervals, and those of every class."""
    named = [(f"{run.name}, {one.name}", one) for run in runs for one in run.evaluations]
    if not named:
        return ""
    kinds = dict.fromkeys(kind for _, one in named for kind in one.accuracies)
    rows = [
        [name, one.videos, one.missing, *(_percent(one.accuracies.get(kind)) for kind in kinds)] for name, one in named
    ]
    head = ["evaluation", "videos", "missing", *(kind.replace("_", " ") for kind in kinds)]
    parts = [
        '<p class="note">In per cent, with confidence intervals in brackets.</p>',
        table(head, rows, label="Accuracies"),
    ]
    for name, one in named:
        worst_first = sorted((c for c in one.classes if c[1]), key=lambda c: (c[2] / c[1], c[0]))
        shown = worst_first[:_MOST_CLASSES]
        lines = [[label, videos, f"{100 * right / videos:.1f}"] for label, videos, right in shown]
        count = f"the {len(shown)} worst of {len(worst_first)}" if len(shown) < len(worst_first) else "all"
        classes = table(["class", "videos", "recognised, %"], lines, label=f"Classes of {name}")
        parts.append(f"<details><summary>Classes of {text(name)}: {count}, worst first</summary>{classes}</details>")
    return "\n".join(parts)


def environment(runs: Sequence[ShownRun]) -> str:
    """Versions, revision, command and devices."""
    described = [_flat(run.about) for run in runs]
    fields = dict.fromkeys(field for one in described for field in one)
    if not fields:
        return ""
    rows = [[field, *(one.get(field, _ABSENT) for one in described)] for field in fields]
    return table(["what", *(run.name for run in runs)], rows, label="Environment of the runs")


def configs(runs: Sequence[ShownRun]) -> str:
    """Every field of every run."""
    parts = []
    for run in runs:
        fields = table(["field", "value"], list(run.config.items()), label=f"Config of {run.name}")
        parts.append(f"<details><summary>Config of {text(run.name)}</summary>{fields}</details>")
    return "\n".join(parts)


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _metric_names(metrics: Iterable[Sequence[Mapping[str, float]]]) -> list[str]:
    """The metrics to draw: the known ones first."""
    found = dict.fromkeys(name for lines in metrics for line in lines for name in line)
    return [name for name in CHARTS if name in found] + [n for n in found if n not in CHARTS and n not in _LEFT_OUT]


def _lines(runs: Sequence[ShownRun], of_runs: Sequence[Sequence[Mapping[str, float]]], name: str) -> list[Line]:
    found = [(run.name, style, *series_of(of_runs[style], name)) for style, run in enumerate(runs)]
    return [Line(*line) for line in found if len(line[2])]


def _legend(runs: Sequence[ShownRun]) -> str:
    if len(runs) == 1:
        return ""
    keys = [
        f'<li><svg viewBox="0 0 40 12" aria-hidden="true"><line class="key line{style % MOST_LINES}" x1="0" x2="40" '
        f'y1="6" y2="6"/></svg> {text(run.name)}</li>'
        for style, run in enumerate(runs)
    ]
    return f'<ul class="legend">{"".join(keys)}</ul>'


def _numbers(charts: Sequence[Chart]) -> str:
    rows = [
        [chart.title, line.name, *map(_number, (line.values[0], line.values[-1], line.values.min(), line.values.max()))]
        for chart in charts
        for line in chart.lines
    ]
    head = ["curve", "run", "first", "last", "lowest", "highest"]
    return f"<details><summary>The curves in numbers</summary>{table(head, rows, label='Numbers')}</details>"


def _last(metrics: Sequence[Mapping[str, float]], name: str) -> float | None:
    """The value at the last step that has one, finite or not: a run that ended in NaN must show it."""
    values = [(line["step"], line[name]) for line in metrics if name in line]
    return max(values, key=lambda one: one[0])[1] if values else None


def _median(metrics: Sequence[Mapping[str, float]], name: str) -> float | None:
    values = series_of(metrics, name)[1]
    return float(np.median(values)) if len(values) else None


def _number(value: float | None) -> str:
    if value is None:
        return _ABSENT
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def _percent(interval: tuple[float, float, float] | None) -> str:
    return _ABSENT if interval is None else "{:.2f} ({:.2f} to {:.2f})".format(*(100 * end for end in interval))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            fields |= _flat(value, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = _ABSENT if value is None else _said(value)
    return fields


def _said(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
