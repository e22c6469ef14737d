import io

import pytest

from mgmae_jax.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def show(progress: Progress, step: int) -> None:
    progress.update(step, loss=1 / step, lr=1.5e-4, clips_per_s=32.0)


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_terminal_has_one_line_that_is_rewritten_and_ended_once():
    stream, clock = Terminal(), Clock()
    progress = Progress(10, stream=stream, clock=clock)
    for step in range(1, 11):
        clock.now += 2
        show(progress, step)
    progress.close()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    lines = text.strip("\n").split("\r")[1:]
    assert len(lines) == 11
    assert all(len(line) < 80 for line in lines)
    assert "compiling" in lines[0]
    middle = lines[5]
    for part in ("50%", "step 5/10", "loss 0.2000", "32.0 clips/s", "ETA 0:10", "[###"):
        assert part in middle


def test_half_way_half_of_the_bar_is_filled():
    stream = Terminal()
    progress = Progress(2, stream=stream, clock=Clock())
    show(progress, 1)
    bar = stream.getvalue().split("\r")[-1].partition("]")[0]
    assert bar.count("#") == bar.count(".") > 0


def test_a_narrow_terminal_gets_a_line_that_does_not_wrap(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    show(Progress(1000, stream=stream, clock=Clock()), 1)
    assert all(len(line) < 40 for line in stream.getvalue().split("\r"))


def test_a_line_that_is_cut_off_by_an_error_is_ended():
    stream = Terminal()
    progress = Progress(10, stream=stream, clock=Clock())
    show(progress, 1)
    assert not stream.getvalue().endswith("\n")
    progress.close()
    progress.close()
    assert stream.getvalue().count("\n") == 1


def test_elsewhere_lines_come_at_most_every_interval_and_at_the_end():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(100, start_step=50, stream=stream, interval=10.0, clock=clock)
    for step in range(51, 101):
        clock.now += 1
        show(progress, step)
    lines = stream.getvalue().splitlines()
    assert [line.partition("step ")[2].partition("/")[0] for line in lines] == [
        "50",
        "51",
        "61",
        "71",
        "81",
        "91",
        "100",
    ]
    assert "\r" not in stream.getvalue()
    assert "lr 1.50e-04" in lines[-1]
    assert "ETA 0:00" in lines[-1]


def test_the_time_left_leaves_out_compilation_and_follows_the_speed():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(10_000, stream=stream, interval=0.0, clock=clock)
    clock.now = 300  # compiling
    show(progress, 1)
    clock.now += 1
    show(progress, 2)
    for step in range(3, 40):
        clock.now += 2
        show(progress, step)
    etas = [line.partition("ETA ")[2] for line in stream.getvalue().splitlines()[1:]]
    assert etas[:2] == ["--:--", "2:46:38"]
    assert etas[-1] == "5:32:02"


def test_the_first_step_is_told_once_with_the_time_since_the_start():
    stream = io.StringIO()
    progress = Progress(10, 4, stream=stream)
    for seconds in (41.3, 42.0):
        progress.begun(seconds, seconds + 10)
    assert stream.getvalue().splitlines() == [
        "step 4/10  compiling the first step",
        "step 5/10  done 41 s after the start, 51 s of processor time",
    ]
