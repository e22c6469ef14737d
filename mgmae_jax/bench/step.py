"""The pre-training step by strategy and batch, beside what the device's matrix unit can do; made to be quick.

All programs are compiled at once, in threads, and share one process: on a machine that is lent for minutes, that is
what decides whether there is a table at the end.
"""

import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array
from ml_collections import ConfigDict

from mgmae_jax.bench.flops import count_flops
from mgmae_jax.bench.masking import VIDEOS, place_inputs, with_masks, with_preset
from mgmae_jax.bench.measure import planned_gib
from mgmae_jax.bench.report import markdown_table
from mgmae_jax.ops.placement import on_mesh
from mgmae_jax.runtime.mesh import abstract_on, make_mesh
from mgmae_jax.runtime.rng import stream
from mgmae_jax.train.pretrain import Pretraining, build_pretraining

ROWS = {"tube": ("tube", None), "motion, paper": ("motion", "paper"), "motion, fast": ("motion", "fast")}
"""The rows of each batch: the strategy, and the preset of its masks and flow."""
ROUNDS = 4
"""How often `calls` steps are timed; each step is dispatched before the one before it has ended, as in training."""
NOTES = """\
ms/step: the median round. x tube: ratio to tube masks at the same batch. MFU: the model's matrix products, flow and
masks not counted, as a share of the rate of one large product in the same type, measured on the same device."""


@dataclasses.dataclass(frozen=True)
class StepTime:
    """How long one program takes.

    Args:
      name: a row of `ROWS`.
      clips: clips of a step, over all devices.
      seconds: of a step, from each round; empty if memory ran out.
      planned_gib: memory that the program needs on one device, by XLA's plan.
      compile_seconds: compiling it, beside the others.
    """

    name: str
    clips: int
    seconds: tuple[float, ...]
    planned_gib: float
    compile_seconds: float

    @property
    def median(self) -> float:
        """The median round's time of a step, in seconds; NaN if memory ran out."""
        return float(np.median(self.seconds)) if self.seconds else float("nan")


@dataclasses.dataclass(frozen=True)
class _Program:
    name: str
    config: ConfigDict
    pretraining: Pretraining
    state: Any
    inputs: Any


def step_times(config: ConfigDict, batches: Sequence[int], calls: int) -> Iterator[StepTime]:
    """Compiles the programs of `ROWS` at each batch, and times them one after another.

    Args:
      config: see configs/pretrain/common.py; what `mask.preset` stands for is changed from row to row.
      batches: clips of a step, over all devices.
      calls: steps of a round.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    mesh = make_mesh(config.mesh.fsdp)
    programs = [_program(mesh, with_row(config, name, clips), name) for clips in batches for name in ROWS]
    first = programs[0]  # the others have the same state
    shardings = jax.tree.map(lambda leaf: leaf.sharding, first.state)
    init = jax.jit(functools.partial(_init, first.pretraining, config.seed), out_shardings=shardings)
    with concurrent.futures.ThreadPoolExecutor(len(programs)) as pool:
        # Tracing holds Python's lock, compiling does not.
        waiting = [pool.submit(_compile, _lower(program, mesh)) for program in programs]
        for program, compiling in zip(programs, waiting, strict=True):
            compiled, seconds = compiling.result()
            yield _timed(program, compiled, seconds, calls, init)


def with_row(config: ConfigDict, name: str, clips: int) -> ConfigDict:
    """The config with the masks and the flow of a row of `ROWS`, and a batch of that many clips."""
    strategy, preset = ROWS[name]
    config = with_masks(config, strategy)
    config.train.batch_size = clips
    return config if preset is None else with_preset(config, preset)


def _program(mesh: Mesh, config: ConfigDict, name: str) -> _Program:
    pretraining = build_pretraining(config, VIDEOS)
    state = abstract_on(mesh, functools.partial(_init, pretraining, config.seed))
    return _Program(name, config, pretraining, state, place_inputs(pretraining.masks, config))


def _init(pretraining: Pretraining, seed: int) -> Any:
    return pretraining.init(stream(jax.random.key(seed), 0, "init"))


def _lower(program: _Program, mesh: Mesh) -> jax.stages.Lowered:
    shardings = jax.tree.map(lambda leaf: leaf.sharding, program.state)
    step = jax.jit(on_mesh(program.pretraining.step, mesh), donate_argnums=0, out_shardings=(shardings, None))
    return step.lower(program.state, *program.inputs)


def _compile(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, float]:
    start = time.perf_counter()
    return lowered.compile(), time.perf_counter() - start


def _timed(
    program: _Program,
    compiled: jax.stages.Compiled,
    compile_seconds: float,
    calls: int,
    init: Callable[[], Any],
) -> StepTime:
    seconds: list[float] = []
    try:
        state = init()
        for round_ in range(1 + ROUNDS):
            steps = calls if round_ else 1  # the first is not counted
            start = time.perf_counter()
            for _ in range(steps):
                state, metrics = compiled(state, *program.inputs)
            jax.block_until_ready((state, metrics))
            seconds.append((time.perf_counter() - start) / steps)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = []
    clips = program.config.train.batch_size
    return StepTime(program.name, clips, tuple(seconds[1:]), planned_gib(compiled), compile_seconds)


def model_flops(config: ConfigDict, clips: int) -> int:
    """Operations that the model's step takes for each clip: `count_flops` of the step with tube masks.

    Args:
      config: see configs/pretrain/common.py.
      clips: the clips that are traced, a multiple of the number of devices.
    """
    config = with_row(config, "tube", clips)
    config.model.attention = "xla"  # no count sees into cuDNN's, which does the same operations
    config.model.remat = False  # what is computed twice counts once
    pretraining = build_pretraining(config, VIDEOS)
    grid, key = pretraining.grid, jax.eval_shape(lambda: jax.random.key(0))
    batch = {"clip": jax.ShapeDtypeStruct((clips, grid.frames, grid.height, grid.width, 3), jnp.uint8)}
    state = jax.eval_shape(pretraining.init, key)
    return count_flops(jax.jit(pretraining.step).trace(state, {}, batch, key).jaxpr.jaxpr) // clips


def matrix_rate(dtype: str) -> float:
    """Operations a second of a large square product on one device, two for each multiply and add.

    The matrices grow until a product takes long enough for the call not to matter.

    Args:
      dtype: of the matrices.
    """
    product = jax.jit(lambda a, b: a @ b)

    def time_of(matrix: Array, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            result = product(matrix, matrix)
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / calls

    best, size = 0.0, 256
    while True:
        matrix = jnp.ones((size, size), dtype) * jnp.asarray(size**-0.5, dtype)
        time_of(matrix, 1)
        seconds = min(time_of(matrix, 10) for _ in range(3))
        best = max(best, 2 * size**3 / seconds)
        if seconds > 2e-3 or size == 16384:
            return best
        size *= 2


def numbers(times: Sequence[StepTime], flops: int, rate: float, devices: int) -> list[dict[str, Any]]:
    """The rows as JSON values; what a row that ran out of memory does not have is None.

    Args:
      times: the programs' times.
      flops: see `model_flops`.
      rate: see `matrix_rate`.
      devices: how many devices a step runs on.
    """
    tube = {one.clips: one.median for one in times if one.name == "tube"}
    rows = []
    for one in times:
        measured: dict[str, Any] = {
            "ms_per_step": one.median * 1000,
            "ms_per_step_rounds": [seconds * 1000 for seconds in one.seconds],
            "clips_per_second": one.clips / one.median,
            "times_tube": one.median / tube[one.clips],
            "mfu": flops * one.clips / one.median / (rate * devices),
        }
        if not one.seconds:
            measured = dict.fromkeys(measured)
        elif not np.isfinite(measured["times_tube"]):
            measured["times_tube"] = None
        memory = {"planned_gib": one.planned_gib, "compile_seconds": one.compile_seconds}
        rows.append({"name": one.name, "clips": one.clips, **measured, **memory})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines: list[Sequence[str]] = [
        ("", "clips", "ms/step", "clips/s", "x tube", "MFU", "GiB planned", "compile s"),
    ]
    for row in rows:
        ms, ratio = row["ms_per_step"], row["times_tube"]
        shown = (
            ("out of memory", "", "", "")
            if ms is None
            else (f"{ms:.4g}", f"{row['clips_per_second']:.4g}", f"{ratio:.3f}" if ratio else "", f"{row['mfu']:.1%}")
        )
        lines.append(
            (row["name"], str(row["clips"]), *shown, f"{row['planned_gib']:.2f}", f"{row['compile_seconds']:.1f}")
        )
    return markdown_table(lines)
