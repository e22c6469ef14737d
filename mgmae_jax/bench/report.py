"""Measurements as a table for people and as JSON for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mgmae_jax.bench.agreement import agreement
from mgmae_jax.bench.machine import Machine
from mgmae_jax.bench.measure import WARM_UP, Measurement

TUBE = ("tube", "step, tube masks")
"""The rows that the others are compared with, at the same number of clips."""
PAPER = "motion, paper"
"""The row whose masks the others' are compared with."""
NOTES = """\
paper: RAFT at the clip's size, 6 updates, maps of pixels warped; fast: 112 pixels, 3 updates, points followed. official
order: as paper, but one pair after another, both of its frames encoded anew; PyTorch: the official program itself.
ms/clip: median of the calls, each waited for. CPU: the process's time on all cores, which other programs disturb less;
on an accelerator it is the host's. x tube: ratio to the row of tube masking at the same batch; "step, tube masks" is
close to the model's time on its own. agreement: visible tokens in common with "motion, paper", on the bench's own
moving clips. GFLOP: matrix products and convolutions. GiB planned: what the compiled program holds at once on a device,
by XLA's plan. GiB peak: the most that the row's process (on an accelerator: its fullest device) had held until then,
compiling included."""


def rows(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The numbers of each measurement, as JSON values, by the number of clips; None where there is none.

    Args:
      measurements: for each number of clips one is of `TUBE`; the others are compared with it.
    """
    tube = {one.clips: one for one in measurements if one.name in TUBE}
    paper = {one.clips: one.visible for one in measurements if one.name == PAPER}

    def agreed(one: Measurement) -> float | None:
        reference = paper.get(one.clips)
        return None if reference is None or one.visible is None else agreement(reference, one.visible)

    return [
        {
            "name": one.name,
            "clips_per_call": one.clips,
            "calls": len(one.seconds),
            "ms_per_call": one.median * 1000,
            "ms_per_clip": one.quantiles_ms_per_clip(),
            "cpu_ms_per_clip": one.cpu_median * 1000 / one.clips,
            "clips_per_second": one.clips / one.median,
            "times_tube": one.median / tube[one.clips].median,
            "cpu_times_tube": one.cpu_median / tube[one.clips].cpu_median,
            "agreement": agreed(one),
            "gflop_per_clip": None if one.flops is None else one.flops / one.clips / 1e9,
            "gflop_per_second": None if one.flops is None else one.flops / one.median / 1e9,
            "planned_gib": one.program_gib,
            "peak_gib": one.peak_gib,
            "compile_seconds": one.compile_seconds,
        }
        for one in sorted(measurements, key=lambda one: one.clips)
    ]


def table(numbers: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table whose columns are aligned."""
    head = (
        "", "clips", "ms/clip", "quartiles", "CPU ms/clip", "clips/s", "x tube", "CPU x tube", "agreement",
        "GFLOP/clip", "GFLOP/s", "GiB planned", "GiB peak", "compile s",
    )  # fmt: skip
    return markdown_table([head, *map(_cells, numbers)])


def cost_points(numbers: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float, str]]]:
    """By name, ms a clip, agreement and clips of the rows whose masks were compared, for `show.cost`."""
    points: dict[str, list[tuple[float, float, str]]] = {}
    for row in numbers:
        if row["agreement"] is not None:
            point = row["ms_per_clip"]["median"], row["agreement"], str(row["clips_per_call"])
            points.setdefault(row["name"], []).append(point)
    return points


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Cells, the head in the first line and names in the first column, as Markdown whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |" for line in ruled
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    clip = row["ms_per_clip"]
    return (
        row["name"],
        str(row["clips_per_call"]),
        _three_digits(clip["median"]),
        f"{_three_digits(clip['q1'])} - {_three_digits(clip['q3'])}",
        _three_digits(row["cpu_ms_per_clip"]),
        _three_digits(row["clips_per_second"]),
        _three_digits(row["times_tube"]),
        _three_digits(row["cpu_times_tube"]),
        _places(row["agreement"], 3),
        _three_digits(row["gflop_per_clip"]),
        _three_digits(row["gflop_per_second"]),
        _places(row["planned_gib"], 2),
        _places(row["peak_gib"], 2),
        _places(row["compile_seconds"], 1),
    )


def _places(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _three_digits(value: float | None) -> str:
    """Three significant digits, never in scientific notation; nothing for None."""
    if value is None:
        return ""
    for places, limit in ((0, 100), (1, 10), (2, 1)):
        if value >= limit:
            return f"{value:.{places}f}"
    return f"{value:.3f}"


def heading(machine: Machine, config: ConfigDict, batches: Sequence[int], repeats: int) -> str:
    """The settings that the table was measured with, in two lines."""
    clip, model, flow, mask = config.clip, config.model, config.flow, config.mask
    by = f"RAFT-small {flow.dtype}" if flow.source == "raft" else flow.source
    return "\n".join(
        [
            machine_line(machine),
            f"{model.name} {model.dtype}, {', '.join(map(str, batches))} clips of "
            f"{clip.frames}x{clip.size}x{clip.size}, mask ratio {mask.ratio}; flow by {by}; "
            f"{repeats} calls after {WARM_UP}",
        ]
    )


def machine_line(machine: Machine) -> str:
    """The machine and the versions that a measurement was made with."""
    commit, _, dirty = (machine["git_revision"] or "").partition("-")
    revision = f" ({commit[:12]}{dirty and ', changed'})" if commit else ""
    return (
        f"{machine['devices']} {machine['device_kind']}; {machine['processor']}, {machine['cores']} cores; "
        f"mgmae-jax {machine['mgmae_jax']}{revision}, jax {machine['jax']}, jaxlib {machine['jaxlib']}"
    )
