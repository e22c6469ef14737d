"""What the pre-training step of `mgmae bench step` costs a chip by row, off its compiled program, unmeasured."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from mgmae_jax.bench.masking import VIDEOS
from mgmae_jax.bench.report import markdown_table
from mgmae_jax.bench.step import with_row
from mgmae_jax.ops.splash_attention import padded_tokens
from mgmae_jax.plan.chips import Chip
from mgmae_jax.plan.compile import Compiled, compile_step
from mgmae_jax.plan.costs import REST, SCOPES, Costs, count_costs, scope_of
from mgmae_jax.plan.memory import GIB
from mgmae_jax.plan.work import build_work
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.train.masks import build_mask_step

NOTES = """\
All of this is of the compiled program, not measured: no step was run. Figures are of one chip and one step, loops as
often as they run. TFLOP: products and convolutions, of kernels with their padding and recomputation. GiB moved: what
instructions read from the chip's main memory and write to it, in the layout that the compiler chose; what a kernel
reads twice counts once. GiB planned: what the program holds at once. N x N: shapes with all pairs of tokens. gathers:
in the program, of these in loops, of these of single elements. ms: the longer of TFLOP at the chip's peak and of GiB
moved at its full bandwidth, which no step can beat. Mcycles: the compiler's own estimate of all but kernels and
collectives. x tube: ratios to the row with tube masks."""


@dataclasses.dataclass(frozen=True)
class RowCosts:
    """One compiled program.

    Args:
      name: a row of `bench.step.ROWS`.
      clips: of a step, on each chip.
      chip: the kind of chip.
      compiled: what the compiler said.
      costs: what the program's text says; None if the step does not fit.
    """

    name: str
    clips: int
    chip: Chip
    compiled: Compiled
    costs: Costs | None

    @property
    def flops(self) -> dict[str, float]:
        """Operations by scope."""
        counted: Counter[str] = Counter()
        for path, flops in self.compiled.flops.items():
            counted[scope_of(path)] += flops  # type: ignore[assignment]
        return dict(counted)

    @property
    def seconds(self) -> tuple[float, float]:
        """The least times of a step: all operations at the chip's peak, all bytes moved at its full bandwidth."""
        moved = sum(self.costs.bytes.values()) if self.costs else float("nan")
        return sum(self.flops.values()) / (self.chip.tflops * 1e12), moved / (self.chip.bandwidth * 1e9)


def row_costs(config: ConfigDict, name: str, clips: int, chip: Chip, devices: Sequence[jax.Device]) -> RowCosts:
    """Compiles the step of a row for devices, which need not be here.

    Args:
      config: see configs/pretrain/common.py; what `mask.preset` stands for is changed.
      name: a row of `bench.step.ROWS`.
      clips: of a step, over all devices.
      chip: what the devices are.
      devices: see `plan.topology.tpu_devices`.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    config = with_row(config, name, clips)
    config.data.views = 1
    work = build_work(config, VIDEOS)
    compiled = compile_step(work, make_mesh(config.mesh.fsdp, devices))
    tokens = build_mask_step(config).grid.tokens
    costs = count_costs(compiled.hlo, tokens, padded_tokens(tokens)) if compiled.fits else None
    return RowCosts(name, clips // len(devices), chip, compiled, costs)


def numbers(rows: Sequence[RowCosts]) -> list[dict[str, Any]]:
    """The rows as JSON values; what a row that does not fit does not have is None."""
    found = []
    for row in rows:
        costs, (compute, memory) = row.costs, row.seconds
        tube = next((one for one in rows if (one.name, one.clips) == ("tube", row.clips)), None)
        known = costs and {
            "flops": sum(row.flops.values()),
            "bytes_moved": sum(costs.bytes.values()),
            "cycles": sum(costs.cycles.values()),
            "flops_by_scope": row.flops,
            "bytes_by_scope": costs.bytes,
            "cycles_by_scope": costs.cycles,
            "gathers": dataclasses.asdict(costs.gathers),
            "pair_arrays": list(costs.pair_arrays),
            "compute_seconds": compute,
            "memory_seconds": memory,
            "least_seconds": max(compute, memory),
            "times_tube": None if tube is None or tube.costs is None else max(compute, memory) / max(tube.seconds),
        }
        planned = {"planned_bytes": row.compiled.memory.total, "compile_seconds": row.compiled.seconds}
        found.append(
            {"name": row.name, "clips_per_chip": row.clips, "fits": costs is not None, **planned} | (known or {})
        )
    return found


def tables(rows: Sequence[RowCosts]) -> str:
    """The rows, and the scopes of each, as two Markdown tables."""
    head = (
        "", "clips", "TFLOP", "GiB moved", "GiB planned", "N x N", "gathers", "ms", "x tube", "Mcycles", "x tube",
        "compile s",
    )  # fmt: skip
    whole = [head, *(_cells(row, rows) for row in rows)]
    fitting = [(row, row.costs) for row in rows if row.costs is not None]
    scopes: list[tuple[str, ...]] = [
        ("", *(f"{row.name}, {row.clips}: {unit}" for row, _ in fitting for unit in ("TFLOP", "GiB", "Mcycles")))
    ]
    for scope in (*SCOPES, REST):
        cells = []
        for row, costs in fitting:
            each = row.flops.get(scope, 0) / 1e12, costs.bytes.get(scope, 0) / GIB, costs.cycles.get(scope, 0) / 1e6
            cells += [f"{value:.2f}" for value in each]
        scopes.append((scope, *cells))
    return f"{markdown_table(whole)}\n\n{markdown_table(scopes)}"


def _cells(row: RowCosts, rows: Sequence[RowCosts]) -> tuple[str, ...]:
    planned, took = f"{row.compiled.memory.total / GIB:.2f}", f"{row.compiled.seconds:.0f}"
    if row.costs is None:
        return (row.name, str(row.clips), "does not fit", "", planned, "", "", "", "", "", "", took)
    tube = next((one for one in rows if (one.name, one.clips) == ("tube", row.clips) and one.costs), None)
    cycles, gathers = sum(row.costs.cycles.values()), row.costs.gathers
    in_tube = sum(tube.costs.cycles.values()) if tube and tube.costs else 0
    return (
        row.name,
        str(row.clips),
        f"{sum(row.flops.values()) / 1e12:.2f}",
        f"{sum(row.costs.bytes.values()) / GIB:.1f}",
        planned,
        str(len(row.costs.pair_arrays)),
        f"{gathers.count}, {gathers.looped}, {gathers.scalar_looped}",
        f"{max(row.seconds) * 1000:.1f}",
        f"{max(row.seconds) / max(tube.seconds):.2f}" if tube else "",
        f"{cycles / 1e6:.1f}",
        f"{cycles / in_tube:.2f}" if in_tube else "",
        took,
    )
