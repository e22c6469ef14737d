"""Timing one jitted program: compilation, many synchronised calls, operations and memory."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mgmae_jax.bench.flops import count_flops
from mgmae_jax.runtime.device_info import device_memory

WARM_UP = 2
"""Calls before the first one that is timed."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The measurements of one program.

    Args:
      name: the row's name.
      clips: how many one call works on.
      seconds: the time of each call, from its start until its last output is there.
      cpu_seconds: the processor time that each call took, over all threads of the process.
      compile_seconds: tracing, lowering and compiling, with nothing cached.
      flops: floating-point operations of one call; see `count_flops`.
      program_gib: memory that the compiled program needs at once on one device: arguments, outputs that do not reuse
        donated arguments, and temporaries (XLA's plan).
      peak_gib: the most that the process (on an accelerator: its fullest device) has held, including initialisation and
        compilation.
    """

    name: str
    clips: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    compile_seconds: float
    flops: int
    program_gib: float
    peak_gib: float

    @property
    def median(self) -> float:
        """The median time of a call, in seconds."""
        return float(np.median(self.seconds))

    def quantiles_ms_per_clip(self) -> dict[str, float]:
        """Milliseconds per clip of a call: minimum, quartiles, maximum."""
        values = np.quantile(self.seconds, [0, 0.25, 0.5, 0.75, 1]) * 1000 / self.clips
        return dict(zip(("min", "q1", "median", "q3", "max"), values.tolist(), strict=True))


def measure(
    name: str, function: Callable[..., tuple[Any, Any]], carry: Any, args: tuple[Any, ...], *, clips: int, repeats: int
) -> Measurement:
    """Compiles `function` and calls it repeatedly, waiting for each call to end.

    Args:
      name: the row's name.
      function: (carry, *args) -> (carry, result); the carry is donated and passed on to the next call.
      carry: arrays placed on devices, such as a training state; an empty tuple if there is none.
      args: the same in every call.
      clips: how many one call works on.
      repeats: timed calls, after `WARM_UP` untimed ones.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, carry)
    start = time.perf_counter()
    traced = jax.jit(function, donate_argnums=0, out_shardings=(shardings, None)).trace(carry, *args)
    compiled = traced.lower().compile()
    compile_seconds = time.perf_counter() - start
    seconds, cpu_seconds = [], []
    for _ in range(WARM_UP + repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        carry, result = jax.block_until_ready(compiled(carry, *args))
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
        del result
    return Measurement(
        name=name,
        clips=clips,
        seconds=tuple(seconds[WARM_UP:]),
        cpu_seconds=tuple(cpu_seconds[WARM_UP:]),
        compile_seconds=compile_seconds,
        flops=count_flops(traced.jaxpr.jaxpr),
        program_gib=planned_gib(compiled),
        peak_gib=device_memory()["memory_gib"],
    )


def planned_gib(compiled: jax.stages.Compiled) -> float:
    """Memory that a compiled program needs at once on one device; see `Measurement.program_gib`."""
    plan: Any = compiled.memory_analysis()
    program = (
        plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
    )
    return program / 2**30
