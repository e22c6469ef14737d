"""Compiling a step for devices that need not be here, and what the compiler says of it."""

import dataclasses
import re
import time
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from mgmae_jax.bench.flops import flops_by_scope
from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.placement import on_mesh
from mgmae_jax.plan.collectives import Collective, collectives
from mgmae_jax.plan.memory import Memory, memory_of_arguments
from mgmae_jax.plan.work import Work, place
from mgmae_jax.runtime.mesh import replicated

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_OUT_OF_MEMORY = (
    re.compile(r"\(([\d.]+)([KMGT]?)B?\) exceeds available HBM"),
    re.compile(r"Used ([\d.]+)([KMGT]?)B? of [\d.]+[KMGT]?B? hbm"),
)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A step compiled for a mesh.

    Args:
      memory: by part.
      fits: whether the compiler could place it; it refuses what is larger than the chip.
      seconds: that lowering and compiling took.
      bytes_accessed: of memory, on each chip in one step, loops once, by the compiler's count; None if it gives none.
      collectives: by kind; None if the step does not fit.
      flops: operations of a chip, loops as often as they run, by the way to them; see `flops_by_scope`.
      hlo: the program's text; empty if the step does not fit.
    """

    memory: Memory
    fits: bool
    seconds: float
    bytes_accessed: float | None = None
    collectives: tuple[Collective, ...] | None = None
    flops: Mapping[str, float] = dataclasses.field(default_factory=dict)
    hlo: str = ""


def compile_step(work: Work, mesh: Mesh) -> Compiled:
    """Compiles a run's step as the training loop does.

    Raises:
      ConfigError: the attention is a GPU's, and the devices are not.
    """
    device = mesh.devices.flat[0]
    model = work.trainer.model
    if device.platform == "tpu" and model.implementation == "cudnn":
        raise ConfigError("model.attention", "cudnn", "auto, since a TPU has no cuDNN")
    placed = place(work, mesh)
    arguments = memory_of_arguments(placed)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, placed.state)
    step = jax.jit(on_mesh(work.trainer.step, mesh), donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
    start = time.perf_counter()
    try:
        traced = step.trace(placed.state, placed.frozen, placed.batch, placed.key)
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        needed = needed_bytes(str(error))
        if needed is None:
            raise
        memory = dataclasses.replace(arguments, temporaries=max(0, needed - arguments.arguments))
        return Compiled(memory, fits=False, seconds=time.perf_counter() - start)
    seconds = time.perf_counter() - start
    plan: Any = compiled.memory_analysis()
    memory = dataclasses.replace(
        arguments,
        padding=max(0, plan.argument_size_in_bytes - arguments.arguments),
        temporaries=plan.temp_size_in_bytes + max(0, plan.output_size_in_bytes - plan.alias_size_in_bytes),
        program=plan.generated_code_size_in_bytes,
    )
    costs = compiled.cost_analysis() or {}
    hlo = compiled.as_text() or ""
    return Compiled(
        memory,
        fits=True,
        seconds=seconds,
        bytes_accessed=costs.get("bytes accessed"),
        collectives=tuple(collectives(hlo)),
        flops={path: flops / mesh.size for path, flops in flops_by_scope(traced.jaxpr.jaxpr).items()},
        hlo=hlo,
    )


def needed_bytes(message: str) -> int | None:
    """The bytes that a program needs, from the compiler's refusal of it; None if that is not about memory."""
    for pattern in _OUT_OF_MEMORY:
        if found := pattern.search(message):
            return int(float(found[1]) * _UNITS[found[2]])
    return None
