"""A plan as tables for people and as JSON for machines."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mgmae_jax.plan.chips import Machines
from mgmae_jax.plan.compile import Compiled
from mgmae_jax.plan.duration import Duration
from mgmae_jax.plan.memory import GIB, Memory

NOTES = """\
GiB are of one chip. parameters, optimiser (with the weight average): split over fsdp chips; batch: with RAFT's weights;
rest: padding and program; temporaries: activations, gradients and all else within a step. GFLOP: matrix products and
convolutions, every pass of a loop; memory accessed: by XLA's count, every loop once. If that alone takes longer than
s/step, the utilisation that was assumed is out of reach. days and chip-hours: of training, without evaluation and
without waiting for data. cores: of all hosts together, which decode each video once for all of its views."""
UNKNOWN_NOTE = """\
"?": nothing was compiled, so temporaries are not known; all else fits. On one GPU `mgmae bench pretrain` measures a
step. JAX takes three quarters of a GPU's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run on some machines, with one mesh.

    Args:
      machines: the chips.
      fsdp: how many of them share a copy of the state.
      clips: of a step, on each chip.
      memory: by part.
      fits: whether it fits; None if only the parts known without compiling do.
      duration: time and data.
      advice: what to change if it does not fit.
      compiled: what the compiler said; None if nothing was compiled.
    """

    machines: Machines
    fsdp: int
    clips: int
    memory: Memory
    fits: bool | None
    duration: Duration
    advice: tuple[str, ...] = ()
    compiled: Compiled | None = None


def as_json(plan: Plan) -> dict[str, Any]:
    """The numbers of a plan: bytes, seconds and counts."""
    chip, compiled = plan.machines.chip, plan.compiled
    return {
        "on": plan.machines.text,
        "chip": chip.name,
        "chips": plan.machines.chips,
        "fsdp": plan.fsdp,
        "clips_per_chip": plan.clips,
        "hbm_bytes": int(chip.hbm_gib * GIB),
        "peak_tflops": chip.tflops,
        "fits": plan.fits,
        "advice": list(plan.advice),
        "memory_bytes": {**dataclasses.asdict(plan.memory), "total": plan.memory.total},
        **dataclasses.asdict(plan.duration),
        "bytes_accessed": compiled and compiled.bytes_accessed,
        "collectives": None
        if compiled is None or compiled.collectives is None
        else {one.kind: {"count": one.count, "bytes": one.bytes} for one in compiled.collectives},
        "compile_seconds": compiled and compiled.seconds,
    }


def memory_rows(plans: Sequence[Plan]) -> list[tuple[str, ...]]:
    """The table of memory, its head first."""
    head = ("", "fsdp", "clips", "parameters", "optimiser", "batch", "temporaries", "rest", "total", "of GiB", "fits")
    return [head, *map(_memory_row, plans)]


def time_rows(plans: Sequence[Plan]) -> list[tuple[str, ...]]:
    """The table of time and data, its head first, one row for each set of machines."""
    head = ("", "chips", "s/step", "days", "chip-hours", "clips/s", "videos/s", "MB/s", "cores")
    each = {plan.machines.text: plan for plan in plans}
    return [head, *map(_time_row, each.values())]


def traffic_lines(plans: Sequence[Plan]) -> list[str]:
    """What each compiled step moves on a chip."""
    lines = []
    for plan in plans:
        if plan.compiled is None or plan.compiled.collectives is None:
            continue
        parts = [f"{one.count} {one.kind} of {one.bytes / GIB:.2f} GiB" for one in plan.compiled.collectives]
        moved, speed = plan.compiled.bytes_accessed, plan.machines.chip.bandwidth * 1e9
        memory = "" if not moved else f"{moved / GIB:.1f} GiB of memory accessed, {moved / speed:.3g} s at full speed; "
        text = ", ".join(parts) or "no collectives"
        lines.append(
            f"{plan.machines.text} fsdp={plan.fsdp}: {memory}{text}; compiled in {plan.compiled.seconds:.0f} s"
        )
    return lines


def _memory_row(plan: Plan) -> tuple[str, ...]:
    memory = plan.memory
    rest = None if memory.program is None else (memory.padding or 0) + memory.program
    return (
        plan.machines.text,
        str(plan.fsdp),
        str(plan.clips),
        _gib(memory.parameters),
        _gib(memory.optimiser + memory.average),
        _gib(memory.batch + memory.frozen),
        _gib(memory.temporaries),
        _gib(rest),
        _gib(memory.total),
        f"{plan.machines.chip.hbm_gib:.1f}",
        {True: "yes", False: "NO", None: "?"}[plan.fits],
    )


def _time_row(plan: Plan) -> tuple[str, ...]:
    time = plan.duration
    return (
        plan.machines.text,
        str(plan.machines.chips),
        f"{time.step_seconds:.3g}",
        f"{time.days:.3g}",
        f"{time.chip_hours:,.0f}",
        f"{time.clips:,.0f}",
        f"{time.videos:,.0f}",
        f"{time.megabytes:,.0f}",
        f"{time.host_cores:,}",
    )


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / GIB:.2f}"
