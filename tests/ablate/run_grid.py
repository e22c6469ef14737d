"""Runs the small grid of the tests in a process of its own: `run_grid.py OUT [--kill-after WORDS] [--workers N]`."""

import argparse
import os
import signal
import sys
from pathlib import Path

from mgmae_jax.ablate.cells import Cell, grid_cells
from mgmae_jax.ablate.grid import Grid, Row, Stage
from mgmae_jax.ablate.runner import Place, Runner, print_line

FAKE = (sys.executable, str(Path(__file__).with_name("fake_program.py")))
STEPS = 3
TUBE, MOTION = Stage("demo", ("mask.strategy=tube",), "tube-1", STEPS), Stage("demo", (), "demo-2", STEPS)


def small_grid(seeds: int = 2, *, finetune: bool = False, classes: bool = False) -> Grid:
    probe = Stage("probe/motion_shapes", (), "probe-3")
    chance = Stage("probe/motion_shapes", ("probe.encoder=random",), "probe-4")
    return Grid(
        name="small",
        title="A small grid",
        paper="",
        axis="",
        classes=classes,
        baseline="tube",
        seeds=tuple(range(12, 12 + seeds)),
        rows=(Row("tube", "tube", TUBE), Row("motion", "tube", MOTION)),
        probe=probe,
        random=chance,
        finetune=Stage("finetune/motion_shapes", (), "finetune-5", STEPS) if finetune else None,
    )


def nothing(cell: Cell) -> None:
    """There are no data to prepare."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kill-after")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore

    def say(line: str) -> None:
        print_line(line)
        if args.kill_after and args.kill_after in line:
            os.kill(os.getpid(), signal.SIGKILL)

    cells = grid_cells(small_grid(args.seeds), args.out)
    others = Runner(cells, nothing, args.out / "data.lock", [Place()] * args.workers, program=FAKE, say=say).run()
    print("others", len(others), flush=True)


if __name__ == "__main__":
    main()
