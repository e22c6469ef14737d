"""Cells are run once, resume after a kill, and fail without stopping the others. The program that they run is fake."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from mgmae_jax.ablate.cells import Cell, grid_cells
from mgmae_jax.ablate.claims import claim, is_orphan
from mgmae_jax.ablate.runner import Runner, duration, places
from mgmae_jax.errors import FileError, MgmaeError, StoppedError
from tests.ablate.run_grid import FAKE, nothing, small_grid

RUN = [sys.executable, str(Path(__file__).with_name("run_grid.py"))]
EVERYTHING = [
    "pretrain tube-1 12", "probe tube-1 12", "random tube-1 12", "pretrain demo-2 12", "probe demo-2 12",
    "pretrain tube-1 13", "probe tube-1 13", "random tube-1 13", "pretrain demo-2 13", "probe demo-2 13",
]  # fmt: skip


def runner(out: Path, seeds: int = 2, **options: object) -> Runner:
    cells = grid_cells(small_grid(seeds), out)
    return Runner(**{"cells": cells, "prepare": nothing, "data_lock": out / "data.lock", "program": FAKE} | options)


def start(out: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen([*RUN, str(out), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_everything_runs_once_and_then_nothing(tmp_path: Path, fake):
    told = []
    assert runner(tmp_path / "out", say=told.append).run() == []
    assert fake.ran == EVERYTHING
    assert runner(tmp_path / "out").run() == []
    assert fake.ran == EVERYTHING
    assert told[0].startswith("tube, seed 12: pretrain begins; log in ")
    assert told[1].startswith("tube, seed 12: pretrain done in 0:")
    assert "1 of 10 parts ended, at least 0:" in told[1]
    assert told[-1].endswith("10 of 10 parts ended")
    log = (tmp_path / "out" / "cells" / "tube-1" / "seed12" / "pretrain.log").read_text()
    assert log.startswith(f"$ {FAKE[0]} {FAKE[1]} pretrain --config demo --config.mask.strategy=tube --config.seed=12")
    assert log.splitlines()[1] == "this is pretrain "


def test_a_grid_killed_between_parts_resumes_after_the_last(tmp_path: Path, fake):
    killed = start(tmp_path / "out", "--kill-after", "probe done")
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert fake.ran == EVERYTHING[:2]
    runner(tmp_path / "out").run()
    assert fake.ran == EVERYTHING


def test_a_grid_killed_within_a_part_takes_it_along_and_runs_it_again(tmp_path: Path, fake):
    fake.hold("probe")
    killed = start(tmp_path / "out")
    fake.begun("probe")
    killed.kill()
    killed.communicate(timeout=60)  # ends when its child has, which holds the pipe
    fake.release("probe")
    assert fake.ran == EVERYTHING[:2]
    runner(tmp_path / "out").run()
    assert fake.ran == [*EVERYTHING[:2], *EVERYTHING[1:]]


def test_an_interrupted_grid_ends_its_parts_first_and_they_have_not_failed(tmp_path: Path, fake):
    fake.hold("pretrain")
    interrupted = start(tmp_path / "out")
    fake.begun("pretrain")
    interrupted.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in interrupted.communicate(timeout=60)[1]
    cell = grid_cells(small_grid(), tmp_path / "out")[0]
    assert cell.parts[0].state == "begun"
    with claim(cell.folder) as lock:
        assert lock is not None
    assert fake.ran == EVERYTHING[:1]


def test_ctrl_c_reaches_the_parts_as_sigterm_only(tmp_path: Path, fake):
    told = (sys.executable, "-c", "import os; print(os.getpgrp())")  # a terminal sends SIGINT to its process group
    runner(tmp_path / "out", 1, program=told).run()
    failure = grid_cells(small_grid(1), tmp_path / "out")[0].parts[0].failure
    assert int(failure["reason"]) != os.getpgrp()


def test_a_part_that_outlives_a_killed_grid_is_waited_for(tmp_path: Path, fake):
    fake.stubborn()
    fake.hold("pretrain")
    killed = start(tmp_path / "out", "--seeds", "1")
    fake.begun("pretrain")
    killed.kill()
    killed.wait(timeout=60)
    folder = tmp_path / "out" / "cells" / "tube-1" / "seed12"
    assert is_orphan(folder)
    with claim(folder) as lock:
        assert lock is None
    fake.release("pretrain")
    again = start(tmp_path / "out", "--seeds", "1")
    assert again.stderr is not None
    for line in again.stderr:
        if "waiting for a part that a killed process left" in line:
            break
    fake.let_go("pretrain")
    assert again.communicate(timeout=60)[0] == "others 0\n"
    killed.communicate(timeout=60)
    assert Counter(fake.ran) == Counter(EVERYTHING[:5])


def test_two_processes_share_the_cells(tmp_path: Path, fake):
    both = [start(tmp_path / "out", "--seeds", "3", "--workers", "2") for _ in range(2)]
    assert [one.communicate(timeout=120)[1] is not None and one.returncode for one in both] == [0, 0]
    third = [word.replace("13", "14") for word in EVERYTHING[5:]]
    assert Counter(fake.ran) == Counter([*EVERYTHING, *third])


def test_a_cell_that_another_process_has_is_left_to_it(tmp_path: Path, fake):
    (tube, motion) = grid_cells(small_grid(1), tmp_path / "out")
    with claim(tube.folder) as lock:
        assert lock is not None
        assert runner(tmp_path / "out", 1).run() == [tube]
    assert fake.ran == EVERYTHING[3:5]
    assert all(part.done for part in motion.parts)


def test_a_failure_stops_only_what_needs_it(tmp_path: Path, fake):
    fake.fail("demo-2/seed12/pretrain")
    told = []
    runner(tmp_path / "out", say=told.append).run()
    without = [line for line in EVERYTHING if line != "probe demo-2 12"]
    assert fake.ran == without
    (line,) = [line for line in told if "FAILED" in line]
    assert line.startswith("motion, seed 12: pretrain FAILED with status 1, see ")
    assert told[-1].endswith("10 of 10 parts ended")  # the probe of what failed is not waited for
    cell = grid_cells(small_grid(), tmp_path / "out")[1]
    assert [part.state for part in cell.parts] == ["failed", "open"]
    assert cell.parts[0].failure == {"status": 1, "reason": "it cannot work"}
    runner(tmp_path / "out").run()
    assert fake.ran == without
    fake.fail("nothing")
    runner(tmp_path / "out", retry=True).run()
    assert fake.ran == [*without, "pretrain demo-2 12", "probe demo-2 12"]
    assert cell.parts[0].failure is None


def test_a_command_that_ends_well_without_its_output_has_failed(tmp_path: Path, fake):
    runner(tmp_path / "out", program=(sys.executable, "-c", "print('nothing to do')")).run()
    cell = grid_cells(small_grid(), tmp_path / "out")[0]
    assert cell.parts[0].failure == {"status": 0, "reason": "nothing to do"}


def test_a_part_that_is_told_to_stop_stops_the_grid_and_has_not_failed(tmp_path: Path, fake):
    program = (sys.executable, "-c", "import sys; sys.exit(143)")
    with pytest.raises(StoppedError, match="stopped during pretrain of tube, seed 12"):
        runner(tmp_path / "out", program=program).run()
    cell = grid_cells(small_grid(), tmp_path / "out")[0]
    assert cell.parts[0].state == "begun"


def test_workers_have_a_device_each_and_work_at_once(tmp_path: Path, fake):
    together, prepared = threading.Barrier(2, timeout=60), []

    def say(line: str) -> None:
        if "pretrain begins" in line:
            together.wait()

    devices = places(1, ["0", "1"])
    one = runner(tmp_path / "out", 1, places=devices, say=say, prepare=lambda cell: prepared.append(str(cell)))
    one.run()
    logs = [(cell.folder / "pretrain.log").read_text() for cell in one.cells]
    assert sorted(log.splitlines()[1] for log in logs) == ["this is pretrain 0", "this is pretrain 1"]
    assert all(log.startswith("$ CUDA_VISIBLE_DEVICES=") for log in logs)
    assert sorted(prepared) == ["motion, seed 12", "tube, seed 12"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tie processes to cores")
def test_jobs_have_the_cores_in_shares(tmp_path: Path, fake):
    cores = sorted(os.sched_getaffinity(0))
    told = (sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))")
    for jobs in {1, len(cores)}:
        one = runner(tmp_path / str(jobs), jobs, places=places(jobs, []), program=told)
        one.run()
        reasons = {cell.parts[0].failure["reason"] for cell in one.cells}
        assert reasons <= {str([core] if jobs > 1 else cores) for core in cores}
    assert sorted(os.sched_getaffinity(0)) == cores
    assert [place.cores for place in places(len(cores) + 1, [])] == [frozenset()] * (len(cores) + 1)


def test_data_that_cannot_be_prepared_stop_the_grid(tmp_path: Path, fake):
    def prepare(cell: Cell) -> None:
        raise MgmaeError("no space")

    with pytest.raises(MgmaeError, match="no space"):
        runner(tmp_path / "out", prepare=prepare).run()
    assert fake.ran == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, fake):
    (tmp_path / "out").write_text("")
    with pytest.raises(FileError, match=r"--out"):
        runner(tmp_path / "out").run()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (250, "4:10"), (9060, "2:31:00")])
def test_a_time_is_told_in_hours_and_minutes(seconds: float, text: str):
    assert duration(seconds) == text
