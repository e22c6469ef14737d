"""`mgmae bench step --compiled SLICE`: what the step costs TPUs that are not here, off programs compiled for them."""

from pathlib import Path

from ml_collections import ConfigDict

from mgmae_jax.bench.step import ROWS
from mgmae_jax.commands.plan import check_mesh, working
from mgmae_jax.errors import MgmaeError
from mgmae_jax.plan.chips import parse_machines
from mgmae_jax.plan.rows import NOTES, RowCosts, numbers, row_costs, tables
from mgmae_jax.plan.topology import check_libtpu, plan_on_cpu, tpu_devices
from mgmae_jax.runtime.files import write_json

CLIPS = 24
"""Clips a chip unless --batch-size says otherwise: those of the published runs on 64 chips."""


def bench_compiled(config: ConfigDict, topology: str, batches: list[int], file: Path | None) -> None:
    """Compiles the rows of `bench.step.ROWS` for a TPU slice and prints what the programs ask of a chip.

    Args:
      config: see configs/pretrain/common.py.
      topology: the value of `--compiled`, as in `mgmae plan --on`.
      batches: clips of a step, over all chips; if empty, `CLIPS` a chip.
      file: where to write all numbers, after each row.

    Raises:
      MgmaeError: libtpu is not installed or knows no such slice, or a batch cannot be split over it.
    """
    machines = parse_machines(topology, "--compiled")
    if not machines.chip.tpu:
        raise MgmaeError(
            f"--compiled {topology}: give a TPU slice, as v5e:8x8; programs of GPUs need a GPU to compile."
        )
    for clips in (batches := batches or [CLIPS * machines.chips]):
        one = config.copy_and_resolve_references()
        one.train.batch_size, one.data.views = clips, 1
        check_mesh(machines, config.mesh.fsdp, one)
    check_libtpu()
    plan_on_cpu()
    devices = tpu_devices(machines)
    model, clip = config.model, config.clip
    print(
        f"{machines.text}, {machines.chip.tflops} TFLOP/s and {machines.chip.bandwidth} GB/s a chip by "
        f"{machines.chip.source}\n{model.name} {model.dtype}, attention {model.attention}, RAFT {config.flow.dtype}; "
        f"clips of {clip.frames}x{clip.size}x{clip.size}",
        flush=True,
    )
    rows: list[RowCosts] = []
    for clips in batches:
        for name in ROWS:
            with working(f"{name}, {clips // machines.chips} clips a chip: compiling for {machines.text}"):
                rows.append(row_costs(config, name, clips, machines.chip, devices))
            if file:
                head = {"bench": "step", "compiled": machines.text, "config": config.to_dict()}
                write_json(file, head | {"rows": numbers(rows)})
    print(f"\n{tables(rows)}\n\n{NOTES}")
