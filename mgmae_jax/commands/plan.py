"""`mgmae plan`: say ahead of time whether a run fits some machines, and how long it takes on them.

For TPUs the run's own step is compiled for each topology, without having one; for GPUs its operations and its state are
counted."""

import argparse
import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from mgmae_jax.bench.report import markdown_table
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.plan.chips import CHIPS, Machines, parse_machines
from mgmae_jax.plan.compile import compile_step
from mgmae_jax.plan.duration import Duration, estimate
from mgmae_jax.plan.memory import GIB, advice, memory_of_arguments
from mgmae_jax.plan.report import NOTES, UNKNOWN_NOTE, Plan, as_json, memory_rows, time_rows, traffic_lines
from mgmae_jax.plan.topology import check_libtpu, plan_on_cpu, tpu_devices
from mgmae_jax.plan.work import Work, build_work, check_plannable, count_videos, place
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.files import write_json
from mgmae_jax.runtime.mesh import AXES, check_divides, check_fsdp, make_mesh
from mgmae_jax.train.masks import build_mask_step

EXAMPLE = f"""example:
  mgmae plan --config pretrain/ssv2_vit_b --on v5e:8x8 h200:8 --fsdp 1 4
  mgmae plan --config pretrain/k400_vit_b --on v5p:4x4x8 --config.model.name=vit_l \\
      --config.model.remat=True --utilisation 0.3 --json plan.json

--on takes the chips of a TPU slice along each axis (v5e:8x8, v5p:4x4x8; two slices: v5e:16x16:2) or the number of GPUs
(h200:64). The chips: {", ".join(CHIPS)}. TPUs need libtpu: pip install 'mgmae-jax[plan]'. Compiling takes one to
several minutes for each mesh."""
UTILISATION = 0.4
CLIPS_PER_CORE = 57.0
"""Clips that a core reads in a second: the whole pipeline with a worker on each core, as docs/BENCHMARKS.md has it."""
_TICK = 30.0  # seconds between signs of life while compiling


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae plan`."""
    command = command_parser("plan", __doc__, EXAMPLE)
    command.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    command.add_argument(
        "--on", required=True, nargs="+", action="extend", metavar="CHIPS", help="machines: v5e:8x8, h200:8"
    )
    command.add_argument(
        "--fsdp",
        nargs="+",
        action="extend",
        type=int,
        metavar="N",
        help="values of mesh.fsdp to plan for (default: the config's)",
    )
    command.add_argument(
        "--utilisation",
        type=number("--utilisation", most=1.0),
        default=UTILISATION,
        metavar="SHARE",
        help=f"share of the chips' peak that the step's operations reach (default {UTILISATION})",
    )
    command.add_argument(
        "--videos", type=int, metavar="N", help="videos of an epoch (default: of the data set in the config's name)"
    )
    command.add_argument(
        "--clips-per-core",
        type=number("--clips-per-core"),
        default=CLIPS_PER_CORE,
        metavar="R",
        help=f"clips that each core of a host reads in a second (default {CLIPS_PER_CORE:g}: the whole pipeline, "
        "measured on two cores; `mgmae bench data` measures yours)",
    )
    command.add_argument(
        "--no-compile", action="store_true", help="count only, for TPUs too: in seconds, without temporaries"
    )
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae plan"."""
    args, overrides = parse_with_overrides(parser(), argv)
    config = load_config(args.config, overrides)
    check_plannable(config)
    machines = [parse_machines(text) for text in args.on]
    if args.videos is not None and args.videos < 1:
        raise MgmaeError(f"--videos {args.videos}: give 1 or more.")
    if args.json and not args.json.parent.is_dir():
        raise FileError(args.json, "cannot be written: its folder does not exist")
    if args.json and args.json.is_dir():
        raise FileError(args.json, "cannot be written: it is a folder; give --json a file")
    videos = count_videos(config, args.config, args.videos)
    meshes = [(one, fsdp) for one in machines for fsdp in args.fsdp or [config.mesh.fsdp]]
    for one, fsdp in meshes:
        check_mesh(one, fsdp, config)
    if any(one.chip.tpu for one in machines) and not args.no_compile:
        check_libtpu()
    plan_on_cpu()
    with working("tracing the step"):
        work = build_work(config, videos)
    print(describe(work, config, args.utilisation, args.clips_per_core), flush=True)
    plans: list[Plan] = []
    head = {
        "config": args.config,
        "overrides": overrides,
        "videos": work.videos,
        "steps": work.steps,
        "clips_per_step": work.clips,
        "flops_per_step": work.flops,
        "flow_flops_per_step": work.flow_flops,
        "utilisation": args.utilisation,
        "clips_per_core": args.clips_per_core,
    }
    for one, fsdp in meshes:
        duration = estimate(work, one.chip, one.chips, args.utilisation, args.clips_per_core)
        plans.append(make_plan(work, config, one, fsdp, duration, compiles=one.chip.tpu and not args.no_compile))
        if args.json:  # after each, since the next may take minutes
            write_json(args.json, {**head, "plans": [as_json(plan) for plan in plans]})
    print(show(plans))


def number(flag: str, most: float = math.inf) -> Callable[[str], float]:
    """The `type` of an argument that is above 0, up to `most`."""

    def parse(value: str) -> float:
        try:
            given = float(value)
        except ValueError:
            given = math.nan
        if not 0 < given <= most or math.isinf(given):
            want = "a number above 0" + (f", at most {most:g}" if math.isfinite(most) else "")
            raise argparse.ArgumentTypeError(f"{value!r}: give {want}")
        return given

    parse.__name__ = flag
    return parse


def check_mesh(machines: Machines, fsdp: int, config: ConfigDict) -> None:
    """Checks that the chips can be laid out as the mesh, and that a batch divides over them.

    Raises:
      MgmaeError: they cannot, or it does not.
    """
    views = config.data.views
    whole = kind_of(config) == "pretrain" and build_mask_step(config).given_whole_side(views) is not None
    try:
        check_fsdp(fsdp, machines.chips, machines.slices)
        mesh = AbstractMesh((machines.chips // fsdp, fsdp), AXES)
        check_divides("train.batch_size", config.train.batch_size, mesh, views)  # type: ignore[arg-type]
        if whole:  # a clip's whole frames, and so its views, lie on one chip
            check_divides("train.batch_size", config.train.batch_size, mesh)  # type: ignore[arg-type]
    except ConfigError as error:
        raise MgmaeError(f"{machines.flag} {machines.text}: {error}") from error


def make_plan(
    work: Work, config: ConfigDict, machines: Machines, fsdp: int, duration: Duration, *, compiles: bool
) -> Plan:
    """Plans a run on some machines with one mesh; `compiles` asks the compiler, which only TPUs have here.

    Raises:
      MgmaeError: libtpu knows no such slice, or the mesh cannot be laid out on it.
    """
    chip, chips = machines.chip, machines.chips
    compiled = None
    if compiles:
        mesh = make_mesh(fsdp, tpu_devices(machines))
        with working(f"{machines.text} fsdp={fsdp}: compiling for {chips} chips"):
            compiled = compile_step(work, mesh)
        memory = compiled.memory
    else:
        memory = memory_of_arguments(place(work, AbstractMesh((chips // fsdp, fsdp), AXES)))
    fits: bool | None = memory.total <= chip.hbm_gib * GIB and (compiled is None or compiled.fits)
    changes = () if fits else tuple(advice(memory, chip.hbm_gib, config, chips, fsdp))
    if compiled is None and fits:
        fits = None  # as far as is known
    return Plan(machines, fsdp, work.clips // chips, memory, fits, duration, changes, compiled)


def describe(work: Work, config: ConfigDict, utilisation: float, clips_per_core: float) -> str:
    """What is planned, in a few lines."""
    flow = f", of which RAFT {work.flow_flops / work.clips / 1e9:,.3g}" if work.flow_flops else ""
    return (
        f"{config.model.name}, {work.videos:,} videos, {config.train.epochs:g} epochs of {config.data.views} views: "
        f"{work.steps:,} steps of {work.clips:,} clips\n"
        f"{work.flops / 1e12:,.3g} TFLOP a step, {work.flops / work.clips / 1e9:,.3g} GFLOP a clip{flow}\n"
        f"assumed: {utilisation:.0%} of the chips' peak, {clips_per_core:g} clips a second read by each core"
    )


def show(plans: Sequence[Plan]) -> str:
    """The tables, what does not fit and what to change about it, and notes."""
    refused = [
        "\n".join(
            [f"{plan.machines.text} fsdp={plan.fsdp} does not fit. Change one of:", *map("  - {}".format, plan.advice)]
        )
        for plan in plans
        if plan.fits is False
    ]
    parts = [
        markdown_table(memory_rows(plans)),
        markdown_table(time_rows(plans)),
        "\n".join(traffic_lines(plans)),
        *refused,
        NOTES,
        UNKNOWN_NOTE if any(plan.fits is None for plan in plans) else "",
    ]
    return "\n" + "\n\n".join(part for part in parts if part)


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Says on stderr what is being done, every half minute that it still is, and how long it took."""
    start, done = time.monotonic(), threading.Event()

    def tick() -> None:
        while not done.wait(_TICK):
            print(f"{text}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    print(f"{text} ...", file=sys.stderr, flush=True)
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    print(f"{text}: done in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
