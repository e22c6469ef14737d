"""One of two processes fails: its error is told once, and the other leaves soon, whatever it waits for."""

import contextlib
import json
import multiprocessing.connection
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.data.conftest import write_video
from tests.integration.runs import ROOT, Launcher, command, lines_reach, wait_until
from tests.two_processes import two_processes

pytestmark = pytest.mark.slow
STOPPING = "process 1 of 2, on "


def two(
    launcher: Launcher, first: Sequence[str], second: Sequence[str], module: str = "mgmae_jax.cli"
) -> contextlib.AbstractContextManager[list[subprocess.Popen]]:
    """The two processes of a run, each with its own arguments."""
    commands = [[sys.executable, "-m", module, *arguments] for arguments in (first, second)]
    return two_processes(commands, launcher.environment() | {"PYTHONPATH": str(ROOT)})


def ended(processes: Sequence[subprocess.Popen], within: float) -> list[str]:
    """What they wrote, once the first is gone and then, in so many seconds, the other."""
    with contextlib.ExitStack() as stack:
        ends = [os.pidfd_open(process.pid) for process in processes]
        for end in ends:
            stack.callback(os.close, end)
        multiprocessing.connection.wait(ends)
    return [process.communicate(timeout=within)[1] for process in processes]


def check(processes: Sequence[subprocess.Popen], errors: Sequence[str], told: str, statuses: Sequence[int]) -> None:
    """The error is told once, by process 1, without stacks; the other says which process it was."""
    assert [process.returncode for process in processes] == list(statuses), errors
    assert [text.count(told) for text in errors] == [0, 1], errors
    assert errors[0].count(STOPPING) == 1, errors
    for text in errors:
        assert "Traceback" not in text
        assert "stack trace" not in text


def test_a_config_that_is_wrong_in_one_process(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    right = command(tmp_path, data__path=twelve_videos)
    with two(launcher, right, [*right, "--config.mask.ratio=1.5"]) as processes:
        errors = ended(processes, within=15)
    check(processes, errors, "config.mask.ratio=1.5", (3, 1))


def test_a_field_that_is_unknown_in_one_process(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    right = command(tmp_path, data__path=twelve_videos)
    with two(launcher, right, [*right, "--config.mask.rato=0.5"]) as processes:
        errors = ended(processes, within=15)
    check(processes, errors, "mask.rato", (3, 1))


@pytest.mark.parametrize("other", ["--config.optim.lr=0.3", "--config.train.epochs=7"])
def test_another_config_in_one_process(launcher: Launcher, twelve_videos: Path, tmp_path: Path, other: str):
    run = command(tmp_path, data__path=twelve_videos)
    with two(launcher, run, [*run, other]) as processes:
        errors = ended(processes, within=15)
    field = other.removeprefix("--config.").partition("=")[0]
    check(processes, errors, f"process 1 is about to run something else than process 0:\n  {field}: ", (3, 1))


def test_another_list_of_videos_in_one_process(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    (tmp_path / "eleven").mkdir()
    for video in sorted(twelve_videos.glob("*.mp4"))[1:]:
        (tmp_path / "eleven" / video.name).symlink_to(video)
    first, second = (command(tmp_path / "run", data__path=path) for path in (twelve_videos, tmp_path / "eleven"))
    with two(launcher, first, second) as processes:
        errors = ended(processes, within=15)
    check(processes, errors, 'video_list: "12 videos, ', (3, 1))
    assert '"11 videos, ' in errors[1]


def test_a_checkpoint_that_is_damaged_for_both(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    run = command(tmp_path, data__path=twelve_videos, mask__strategy="tube", flow__source="none", train__epochs=4)
    launcher.run(run)
    (tmp_path / "checkpoints" / "6" / "state" / "_METADATA").write_text("{")
    with two(launcher, run, run) as processes:
        errors = ended(processes, within=15)
    assert sorted(process.returncode for process in processes) == [1, 3], errors
    assert "".join(errors).count("6.damaged. The same command resumes from step 3.") == 1, errors
    assert "cannot be moved" not in "".join(errors)
    with two(launcher, run, run) as processes:
        errors = ended(processes, within=60)
    assert [process.returncode for process in processes] == [0, 0], errors
    assert "resuming from step 3;" in errors[0]


def test_the_same_error_in_both_is_told_once(launcher: Launcher, tmp_path: Path):
    wrong = command(tmp_path, data__path=tmp_path / "absent.csv")
    with two(launcher, wrong, wrong) as processes:
        errors = ended(processes, within=15)
    assert "".join(errors).count("absent.csv") == 1, errors
    assert {process.returncode for process in processes} <= {1, 3}


def test_bad_videos_that_one_process_meets(launcher: Launcher, tmp_path: Path):
    root = tmp_path / "videos"
    for i in range(12):
        write_video(root / f"{i:02}.mp4", 16 + i)
    (root / "05.mp4").write_bytes(b"no video")
    run = command(tmp_path / "run", data__path=root, data__max_bad_fraction=0.05)
    with two(launcher, run, run) as processes:
        errors = ended(processes, within=15)
    assert "".join(errors).count("1 of 12 videos cannot be read, more than") == 1, errors
    assert sorted(process.returncode for process in processes) == [1, 3]
    assert "Traceback" not in "".join(errors)


def test_out_of_memory_in_one_process(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    run = command(tmp_path, data__path=twelve_videos)
    with two(launcher, run, run, "tests.integration.failing") as processes:
        errors = ended(processes, within=15)
    check(processes, errors, "mgmae pretrain: out of memory (RESOURCE_EXHAUSTED: Out of memory allocating", (3, 1))


def test_a_killed_process_ends_the_other(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    run = command(tmp_path, data__path=twelve_videos, train__epochs=8000)
    with two(launcher, run, run) as processes:
        wait_until(lambda: lines_reach(2)(tmp_path), processes)
        processes[1].send_signal(signal.SIGKILL)
        errors = ended(processes, within=60)
    assert processes[0].returncode == 3, errors
    assert errors[0].count("process 1 of 2 has given no sign of life for 40 s: it was killed") == 1, errors
    assert "stack trace" not in errors[0]
    assert "Traceback" not in errors[0]


def test_bad_videos_are_counted_once_over_both(launcher: Launcher, tmp_path: Path):
    root = tmp_path / "videos"
    for i in range(12):
        write_video(root / f"{i:02}.mp4", 16 + i)
    for i in (3, 8):
        (root / f"{i:02}.mp4").write_bytes(b"no video")
    run = command(tmp_path / "run", data__path=root, data__max_bad_fraction=0.2)
    with two(launcher, run, run) as processes:
        errors = ended(processes, within=60)
    assert [process.returncode for process in processes] == [0, 0], errors
    lines = [json.loads(line) for line in (tmp_path / "run" / "bad_videos.jsonl").read_text().splitlines()]
    assert sorted(Path(line["path"]).name for line in lines) == ["03.mp4", "08.mp4"]
    assert "".join(errors).count("03.mp4: cannot be read") == 1
