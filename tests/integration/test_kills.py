"""A run that is killed again and again, at moments drawn from a seed, is the run that nobody interrupted.

Fifteen kills take over a minute. `KILLS=30 pytest tests/integration/test_kills.py` tries more, in fives.
"""

import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mgmae_jax.runtime.checkpoint import saved_steps
from tests.integration.runs import Launcher, command, lines_reach, losses, stop_when, tensors

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("KILLS", "15"))
STEPS = 3 * KILLS  # a process does up to six before it is killed, most of them again after the checkpoint before
# These masks need no flow: a start is imports, tracing, and programs from the cache.
FIELDS = {"mask__strategy": "tube", "flow__source": "none", "train__epochs": STEPS * 8 / 12}
Moment = Callable[[], bool]


def after(event: Moment, milliseconds: int) -> Moment:
    """So long after an event, as `wait_until` counts: it asks about every millisecond."""
    left = milliseconds + 1

    def reached() -> bool:
        nonlocal left
        left -= left <= milliseconds or event()
        return left <= 0

    return reached


def draw_moments(draw: random.Random, workdir: Path) -> list[tuple[str, Moment]]:
    """Moments of a process that is about to start: their names, and whether they have come.

    Files that earlier processes left are older than this one, and do not count.
    """
    now, latest = time.time_ns(), max(saved_steps(workdir), default=0)
    folder = workdir / "checkpoints"

    def new(path: Path) -> bool:
        try:
            return path.stat().st_mtime_ns >= now
        except FileNotFoundError:  # renamed or removed since it was listed
            return False

    def reports(count: int) -> Moment:
        # A process that resumes writes the file anew, without the lines after the checkpoint, and then adds its own.
        return lambda: new(workdir / "metrics.jsonl") and lines_reach(latest + count)(workdir)

    def writes(entries: int) -> Moment:
        def found() -> int:
            walked = itertools.chain(*map(os.walk, folder.glob("*.*")))
            return sum(new(Path(root, name)) for root, folders, files in walked for name in [*folders, *files])

        return lambda: found() >= entries

    return [
        ("starting", after(lambda: True, draw.randint(0, 3000))),
        ("stepping", after(reports(draw.randint(1, 4)), draw.randint(0, 100))),
        ("clearing an unfinished checkpoint, or beginning one", lambda: any(map(new, folder.glob("*.*")))),
        ("writing a checkpoint", writes(draw.randint(1, 12))),
        ("checkpoint written", after(lambda: max(saved_steps(workdir), default=0) > latest, draw.randint(0, 30))),
    ]


def test_killed_again_and_again_it_is_the_same_run(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    workdir, reference = tmp_path / "killed", tmp_path / "reference"
    arguments = command(workdir, data__path=twelve_videos, **FIELDS)
    launcher.run(command(reference, data__path=twelve_videos, checkpoint__every=1000, **FIELDS))
    draw, announced = random.Random(0), 0
    kinds = [kind for _ in range(KILLS // 5) for kind in draw.sample(range(5), 5)]

    def begun() -> str:
        saved = saved_steps(workdir)
        return f"resuming from step {saved[-1]};" if saved else "from scratch;"

    for number, kind in enumerate(kinds):
        where, (name, moment) = begun(), draw_moments(draw, workdir)[kind]
        process = launcher.start(arguments)
        errors = stop_when(process, moment, signal.SIGKILL)
        told = f"kill {number}, at {name!r}: {errors}"
        assert process.returncode == -signal.SIGKILL, told
        if "device(s)" in errors:  # it was not killed before it could say where it begins
            announced += 1
            assert where in errors, told
    assert announced >= KILLS // 2
    where = begun()
    assert where.startswith("resuming")
    assert where in launcher.run(arguments)
    assert losses(workdir, STEPS) == losses(reference, STEPS)
    assert tensors(workdir, STEPS) == tensors(reference, STEPS)
    assert len(list((workdir / "checkpoints").iterdir())) == 2  # nothing is left of those that were not finished
