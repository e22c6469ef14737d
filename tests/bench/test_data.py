import contextlib
import itertools
import json
import types

import numpy as np
import pytest

from mgmae_jax import cli
from mgmae_jax.bench import data
from mgmae_jax.bench.data import Rate, cores_for, decord_frames, opencv_frames, pipeline_rate, read_rates
from mgmae_jax.commands import bench_data
from mgmae_jax.data.decode import decode_frames
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.errors import VideoError
from tests.data.conftest import write_video

CLIP = ClipSpec(frames=4, stride=2, size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for i in range(3):
        write_video(root / f"{i}.mp4", 16 + i, options={"g": "6"})
    return root


def test_every_way_reads_the_same_clips(folder, monkeypatch):
    seen = {}

    def rate(name, way, seconds):
        seen[name] = [way(place) for place in range(4)]
        return Rate(name, 4, seconds, seconds, 0)

    monkeypatch.setattr(data, "_rate", rate)
    names = [rate.name for rate in read_rates(read_source(folder), CLIP, 0, 1.0)]
    assert names[:3] == ["decode", "decode and crop", "OpenCV, and crop"]
    for decoded, cropped, by_opencv in zip(*(seen[name] for name in names[:3]), strict=True):
        assert decoded.shape == (4, 48, 64, 3)
        assert cropped.shape == (4, 32, 32, 3)
        np.testing.assert_allclose(by_opencv.astype(int), cropped.astype(int), atol=12)  # another conversion to RGB


def test_opencv_reads_the_frames_asked_for(folder):
    indices = np.array([2, 2, 9, 15])
    frames = opencv_frames(str(folder / "0.mp4"), lambda count: indices[: count + 1])
    np.testing.assert_allclose(frames.astype(int), decode_frames(folder / "0.mp4", indices).astype(int), atol=12)


def test_what_opencv_cannot_read_is_a_video_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"a\.mp4: OpenCV does not read frame 0"):
        opencv_frames(str(tmp_path / "a.mp4"), lambda count: np.arange(count))


def test_decord_where_it_is_installed(folder, tmp_path):
    pytest.importorskip("decord")
    indices = np.array([2, 9, 15])
    frames = decord_frames(str(folder / "0.mp4"), lambda count: indices[: count + 1])
    np.testing.assert_allclose(frames.astype(int), decode_frames(folder / "0.mp4", indices).astype(int), atol=12)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match="decord does not read it"):
        decord_frames(str(tmp_path / "a.mp4"), lambda count: np.arange(count))


def test_unreadable_videos_are_counted_apart(folder, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    videos = VideoList((str(folder / "0.mp4"), str(tmp_path / "bad.mp4")))
    for rate in read_rates(videos, CLIP, 0, 0.05):
        assert abs(rate.clips - rate.unreadable) <= 1
        assert rate.seconds >= 0.05
    rate = pipeline_rate(videos, CLIP, 0, 0.05, workers=0, batch_size=2)
    assert (rate.clips % 2, rate.unreadable) == (0, 1)


def test_cores_for_a_step():
    rate = Rate("decode and crop", clips=100, seconds=1.0, core_seconds=2.0, unreadable=0)
    assert cores_for(rate, clips=32, step_seconds=0.25) == pytest.approx(32 / 0.25 / 50)


@pytest.mark.parametrize(("workers", "cores"), [(0, 1.75), (1, 1.0), (3, 3.0)])
def test_what_a_pipeline_takes_of_the_processor(monkeypatch, workers, cores):
    """Without workers this process's threads, by its own time; with them as many cores, by the clock."""
    ticks = itertools.count()

    def now() -> float:
        return next(ticks) / 1000

    clock = types.SimpleNamespace(perf_counter=now, process_time=lambda: 1.75 * now())
    monkeypatch.setattr(data, "time", clock)
    monkeypatch.setattr(data, "pretrain_batches", lambda *_, **__: contextlib.nullcontext(itertools.repeat({})))
    rate = pipeline_rate(VideoList(()), CLIP, 0, 0.05, workers=workers, batch_size=2)
    assert rate.core_seconds / rate.seconds == pytest.approx(cores, rel=0.1)


def test_cores_are_those_of_the_row_that_takes_the_fewest(folder, monkeypatch, capsys):
    rates = {0: (100, 2.0), 2: (90, 1.5)}  # clips, and seconds of cores, in a second
    monkeypatch.setattr(
        bench_data, "pipeline_rate", lambda *args: Rate("", rates[args[4]][0], 1.0, rates[args[4]][1], 0)
    )
    monkeypatch.setattr(bench_data, "read_rates", lambda *_: [Rate("decode", 1, 1.0, 1.0, 0)])
    argv = ["bench", "data", "--config=pretrain/folder", f"--config.data.path={folder}", "--workers", "0", "2"]
    assert cli.main([*argv, "--step", "0.5", "--config.train.batch_size=30", "--config.flow.source=dis"]) == 0
    assert "in time: 1.0 for a step of 0.5 s" in capsys.readouterr().out


def test_the_command(folder, tmp_path, capsys):
    file = tmp_path / "bench.json"
    argv = ["bench", "data", "--config=pretrain/folder", f"--config.data.path={folder}", "--config.clip.size=32"]
    options = ["--workers", "0", "--seconds", "0.05", "--step", "0.5", f"--json={file}", "--config.clip.frames=4"]
    options += ["--config.mask.ratio=0.5", "--config.flow.source=dis", f"--config.data.cache={tmp_path}/frames"]
    assert cli.main([*argv, *options]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(file.read_text())["rows"]
    names = [row["name"] for row in rows]
    assert names[:3] == ["decode", "decode and crop", "OpenCV, and crop"]
    assert names[-1] == "pipeline, workers=0, flow dis"
    assert list((tmp_path / "frames").glob("*.npy"))
    for row in rows:
        assert f"| {row['name']} " in printed
        assert row["clips_per_second"] == pytest.approx(row["clips"] / row["seconds"])
    assert "for a step of 0.5 s" in printed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--config=finetune/common"], "config.kind='finetune': give a config of kind 'pretrain'"),
        (["--config=pretrain/folder", "--config.data.path=/no/such"], "config.data.path='/no/such'"),
    ],
)
def test_wrong_values_are_named(options, said, capsys):
    assert cli.main(["bench", "data", *options]) != 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [[flag, value] for flag in ("--seconds", "--step") for value in ("0", "-1", "nan", "inf")] + [["--workers", "-1"]],
)
def test_options_are_checked(options, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "data", "--config=pretrain/folder", *options])
    flag, value = options
    wanted = f"--workers {value}: give 0" if flag == "--workers" else f"{flag}: {value!r}: give a number of seconds"
    assert wanted in capsys.readouterr().err


def test_nothing_readable(tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    argv = ["bench", "data", "--config=pretrain/folder", f"--config.data.path={tmp_path}", "--seconds", "0.05"]
    assert cli.main(argv) != 0
    assert "none of its videos can be read" in capsys.readouterr().err
