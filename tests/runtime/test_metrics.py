import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event

from mgmae_jax.errors import FileError
from mgmae_jax.runtime.metrics import MetricWriter, _json_line, read_metrics


def _events(workdir: Path) -> list[Event]:
    """Reads TFRecord files: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_each_write_reaches_the_file_at_once_and_tensorboard_at_the_end(tmp_path: Path):
    with MetricWriter(tmp_path, primary=True) as writer:
        writer.write(1, {"loss": 0.5, "lr": 1e-3})
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5, "lr": 1e-3}]
        writer.write(2, {"loss": 0.25})
    assert read_metrics(tmp_path / "metrics.jsonl")[1] == {"step": 2, "loss": 0.25}
    scalars = [(e.step, v.tag, v.simple_value) for e in _events(tmp_path) for v in e.summary.value]
    assert sorted(scalars) == [(1, "loss", 0.5), (1, "lr", pytest.approx(1e-3)), (2, "loss", 0.25)]


def test_other_processes_write_nothing(tmp_path: Path):
    with MetricWriter(tmp_path / "run", primary=False) as writer:
        writer.truncate_from(0)
        writer.write(1, {"loss": 0.5})
    assert not (tmp_path / "run").exists()


def test_what_is_not_finite_is_strict_json(tmp_path: Path):
    with MetricWriter(tmp_path, primary=True) as writer:
        writer.write(1, {"loss": math.nan, "norm": -math.inf})

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse) == {"step": 1, "loss": None, "norm": None}
    assert math.isnan(read_metrics(tmp_path)[0]["loss"])


def test_a_resumed_run_has_each_step_once(tmp_path: Path):
    with MetricWriter(tmp_path, primary=True) as writer:
        for step in range(1, 8):
            writer.write(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # killed here
    with MetricWriter(tmp_path, primary=True) as writer:
        writer.truncate_from(5)
        for step in range(5, 9):
            writer.write(step, {"loss": 10 * step})
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [
        *((step, step) for step in range(1, 5)),
        *((step, 10 * step) for step in range(5, 9)),
    ]
    starts = [event.step for event in _events(tmp_path) if event.HasField("session_log")]
    assert starts == [5]


@given(torn=st.integers(0, 30))
def test_a_torn_last_line_is_skipped_and_written_over(tmp_path_factory: pytest.TempPathFactory, torn: int):
    workdir = tmp_path_factory.mktemp("run")
    whole, last = _json_line({"step": 1, "loss": 0.5}), _json_line({"step": 2, "loss": 0.25})
    (workdir / "metrics.jsonl").write_text(whole + last[: min(torn, len(last) - 1)])
    assert [line["step"] for line in read_metrics(workdir)] == [1]
    with MetricWriter(workdir, primary=True) as writer:
        writer.write(2, {"loss": 0.25})
    assert (workdir / "metrics.jsonl").read_text() == whole + last


@pytest.mark.parametrize(
    "line",
    [
        "[1]", '{"loss": 1}', "3", '{"step": 1, "loss', '{"step": "one"}', '{"step": Infinity}',
        '{"step": 1, "loss": "0.5"}', '{"step": 1, "loss": [0.5]}',
    ],
)  # fmt: skip
def test_a_line_that_is_no_metrics_is_an_error_that_names_it(tmp_path: Path, line: str):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(FileError, match=r"metrics.jsonl: line 2"):
        read_metrics(path)


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(FileError, match="no-such"):
        read_metrics(tmp_path / "no-such.jsonl")


def test_a_workdir_that_cannot_be_written_to_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="give another --workdir"):
        MetricWriter(tmp_path / "file" / "run", primary=True).write(1, {"loss": 0.0})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_an_error(tmp_path: Path):
    with MetricWriter(tmp_path, primary=True) as writer:
        writer.write(1, {"loss": 0.0})
        writer._lines.close()
        writer._lines = open("/dev/full", "a")  # noqa: SIM115
        with pytest.raises(FileError, match="No space left on device"):
            writer.write(2, {"loss": 0.0})
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer._lines.fileno())  # what is left in the buffer goes nowhere
