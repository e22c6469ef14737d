"""Timing jitted programs: compilation, many synchronised calls in turn, operations and memory."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mgmae_jax.bench.flops import count_flops
from mgmae_jax.runtime.device_info import device_memory

WARM_UP = 2
"""Calls before the first one that is timed."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The measurements of one program; what another library's program does not tell is None.

    Args:
      name: the row's name.
      clips: how many one call works on.
      seconds: the time of each call, from its start until its last output is there.
      cpu_seconds: the processor time that each call took, over all threads of the process.
      peak_gib: the most that the process (on an accelerator: its fullest device) has held so far, including
        initialisation and compilation.
      compile_seconds: tracing, lowering and compiling, with nothing cached, beside the process's other programs.
      flops: floating-point operations of one call; see `count_flops`.
      program_gib: memory that the compiled program needs at once on one device: arguments, outputs that do not reuse
        donated arguments, and temporaries (XLA's plan).
      visible: bool [K, N]: which tokens of some clips are visible, if the program masks them; see `bench.masking`.
    """

    name: str
    clips: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    peak_gib: float
    compile_seconds: float | None = None
    flops: int | None = None
    program_gib: float | None = None
    visible: np.ndarray | None = None

    @property
    def median(self) -> float:
        """The median time of a call, in seconds."""
        return float(np.median(self.seconds))

    @property
    def cpu_median(self) -> float:
        """The median processor time of a call, in seconds."""
        return float(np.median(self.cpu_seconds))

    def quantiles_ms_per_clip(self) -> dict[str, float]:
        """Milliseconds per clip of a call: minimum, quartiles, maximum."""
        values = np.quantile(self.seconds, [0, 0.25, 0.5, 0.75, 1]) * 1000 / self.clips
        return dict(zip(("min", "q1", "median", "q3", "max"), values.tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class Program:
    """A function to measure.

    Args:
      name: the row's name.
      function: (carry, *args) -> (carry, result); the carry is donated and passed on to the next call.
      args: the same in every call; arrays placed on devices.
      clips: how many one call works on.
    """

    name: str
    function: Callable[..., tuple[Any, Any]]
    args: tuple[Any, ...]
    clips: int


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled `Program`: `call` is its function; for the others see `Measurement`."""

    program: Program
    call: jax.stages.Compiled
    compile_seconds: float
    flops: int


def compile_programs(programs: Sequence[Program], carry: Any) -> list[Compiled]:
    """Compiles programs with the same kind of carry, at once, in threads.

    Args:
      programs: at least one.
      carry: arrays placed on devices, such as a training state; an empty tuple if there is none.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, carry)

    def compile_one(program: Program) -> Compiled:
        start = time.perf_counter()
        jitted = jax.jit(program.function, donate_argnums=0, out_shardings=(shardings, None))
        traced = jitted.trace(carry, *program.args)
        call = traced.lower().compile()
        return Compiled(program, call, time.perf_counter() - start, count_flops(traced.jaxpr.jaxpr))

    with concurrent.futures.ThreadPoolExecutor(len(programs)) as pool:
        return list(pool.map(compile_one, programs))


def measure(programs: Sequence[Compiled], carry: Any, repeats: int) -> list[Measurement]:
    """Calls programs repeatedly, in turn, waiting for each call to end: what slows the machine slows all of them.

    Args:
      programs: of one process; in the order of the memory that they need, for the peaks to be their own.
      carry: see `compile_programs`; it goes from call to call, and from program to program.
      repeats: timed calls of each, after `WARM_UP` untimed ones.
    """
    seconds: list[list[float]] = [[] for _ in programs]
    cpu_seconds: list[list[float]] = [[] for _ in programs]
    peaks: list[float] = []
    for _ in range(WARM_UP + repeats):
        for index, compiled in enumerate(programs):
            start, cpu_start = time.perf_counter(), time.process_time()
            carry, result = jax.block_until_ready(compiled.call(carry, *compiled.program.args))
            seconds[index].append(time.perf_counter() - start)
            cpu_seconds[index].append(time.process_time() - cpu_start)
            del result
            if len(peaks) < len(programs):
                peaks.append(device_memory()["memory_gib"])
    return [
        Measurement(
            name=compiled.program.name,
            clips=compiled.program.clips,
            seconds=tuple(wall[WARM_UP:]),
            cpu_seconds=tuple(cpu[WARM_UP:]),
            peak_gib=peak,
            compile_seconds=compiled.compile_seconds,
            flops=compiled.flops,
            program_gib=planned_gib(compiled.call),
        )
        for compiled, wall, cpu, peak in zip(programs, seconds, cpu_seconds, peaks, strict=True)
    ]


def planned_gib(compiled: jax.stages.Compiled) -> float:
    """Memory that a compiled program needs at once on one device; see `Measurement.program_gib`."""
    plan: Any = compiled.memory_analysis()
    program = (
        plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
    )
    return program / 2**30
