"""Measurements as a table for people and as JSON for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mgmae_jax.bench.machine import Machine
from mgmae_jax.bench.measure import WARM_UP, Measurement

NOTES = """\
paper: RAFT at the clip's size, 6 updates, maps of pixels warped; fast: 112 pixels, 3 updates, points followed. official
order: as paper, but one pair after another, both of its frames encoded anew. ms/clip: median of the calls, each waited
for; "step, tube masks" is close to the model's time on its own. CPU: the process's time on all cores, which other
programs disturb less; on an accelerator it is the host's. x tube: ratio to the row of tube masking. GFLOP: matrix
products and convolutions. GiB planned: what the compiled program holds at once on a device, by XLA's plan. GiB peak:
the most that the row's own process (on an accelerator: its fullest device) has held, compiling included. RAFT's
parameters are random, which is the same program."""


def rows(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The numbers of each measurement, as JSON values.

    Args:
      measurements: one of them has "tube" in its name; the others are compared with it.
    """
    tube = next(one for one in measurements if "tube" in one.name)
    return [
        {
            "name": one.name,
            "clips_per_call": one.clips,
            "calls": len(one.seconds),
            "ms_per_call": one.median * 1000,
            "ms_per_clip": one.quantiles_ms_per_clip(),
            "cpu_ms_per_clip": float(np.median(one.cpu_seconds)) * 1000 / one.clips,
            "clips_per_second": one.clips / one.median,
            "times_tube": one.median / tube.median,
            "gflop_per_clip": one.flops / one.clips / 1e9,
            "gflop_per_second": one.flops / one.median / 1e9,
            "planned_gib": one.program_gib,
            "peak_gib": one.peak_gib,
            "compile_seconds": one.compile_seconds,
        }
        for one in measurements
    ]


def table(numbers: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table whose columns are aligned."""
    head = (
        "", "ms/call", "ms/clip", "quartiles", "min - max", "CPU ms/clip", "clips/s", "x tube", "GFLOP/clip", "GFLOP/s",
        "GiB planned", "GiB peak", "compile s",
    )  # fmt: skip
    return markdown_table([head, *map(_cells, numbers)])


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
        _three_digits(row["ms_per_call"]),
        _three_digits(clip["median"]),
        f"{_three_digits(clip['q1'])} - {_three_digits(clip['q3'])}",
        f"{_three_digits(clip['min'])} - {_three_digits(clip['max'])}",
        _three_digits(row["cpu_ms_per_clip"]),
        _three_digits(row["clips_per_second"]),
        _three_digits(row["times_tube"]),
        _three_digits(row["gflop_per_clip"]),
        _three_digits(row["gflop_per_second"]),
        f"{row['planned_gib']:.2f}",
        f"{row['peak_gib']:.2f}",
        f"{row['compile_seconds']:.1f}",
    )


def _three_digits(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    for places, limit in ((0, 100), (1, 10), (2, 1)):
        if value >= limit:
            return f"{value:.{places}f}"
    return f"{value:.3f}"


def heading(machine: Machine, config: ConfigDict, repeats: int) -> str:
    """The settings that the table was measured with, in two lines."""
    clip, model, flow, mask = config.clip, config.model, config.flow, config.mask
    by = f"RAFT-small {flow.dtype}" if flow.source == "raft" else flow.source
    return "\n".join(
        [
            machine_line(machine),
            f"{model.name} {model.dtype}, {config.train.batch_size} clips of {clip.frames}x{clip.size}x{clip.size}, "
            f"mask ratio {mask.ratio}; flow by {by}; {repeats} calls after {WARM_UP}",
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
