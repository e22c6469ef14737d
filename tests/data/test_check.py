import json
import os
import shutil

import av
import numpy as np
import pytest
from PIL import Image

from mgmae_jax.cli import main
from mgmae_jax.commands import check_data, prepare
from mgmae_jax.data.check import Checked, check_video, check_videos, statistics
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.errors import MgmaeError
from tests.data.test_frame_folders import write_frames


@pytest.fixture
def some_broken(video_folder, tmp_path):
    root = shutil.copytree(video_folder, tmp_path / "some")
    (root / "run/c.mp4").write_bytes(b"no video")
    (root / "run/d.mp4").write_bytes((root / "run/d.mp4").read_bytes()[:900])
    return root


def test_what_is_broken_is_listed_with_the_reason(some_broken, tmp_path, capsys):
    out = tmp_path / "checked"
    assert main(["check-data", str(some_broken), "--out", str(out), "--processes", "1"]) == 1
    broken = [json.loads(line) for line in (out / "broken.jsonl").read_text().splitlines()]
    assert [one["path"].rpartition("/")[2] for one in broken] == ["c.mp4", "d.mp4"]
    assert all("cannot be read as a video" in one["reason"] for one in broken)
    good = [json.loads(line) for line in (out / "videos.jsonl").read_text().splitlines()]
    assert [one["frames"] for one in good] == [12, 16, 28]
    assert {(one["height"], one["width"], one["fps"], one["lost"]) for one in good} == {(48, 64, 25.0, 0)}
    numbers = json.loads((out / "statistics.json").read_text())
    assert (numbers["videos"], numbers["broken"], numbers["labels"]) == (5, 2, {"jump": 2, "run": 1})
    assert numbers["frames"] == {"min": 12, "5%": 12, "median": 16, "95%": 28, "max": 28}
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.size[0] > 3 * 128
    told = capsys.readouterr()
    assert "2 broken, 0 with lost frames, 0 ending early" in told.out
    assert "2 classes of 1 to 2 readable videos" in told.out
    assert "d.mp4: cannot be read as a video" in told.err


@pytest.mark.slow
def test_processes_find_the_same(some_broken):
    videos = read_source(some_broken)
    assert list(check_videos(videos, 2, [0], 32)) == list(check_videos(videos, 1, [0], 32))


@pytest.mark.parametrize(("name", "movflags"), [("a.mkv", ""), ("a.mp4", "faststart")], ids=["mkv", "mp4"])
def test_a_truncated_video_ends_early(make_video, name, movflags):
    """Its first frames are read, and training takes clips of them; only its header says that there were more."""
    path = make_video(name, 40, options={"g": "10", "bf": "0"}, movflags=movflags)
    whole = check_video(path)
    assert (whole.problem, whole.frames, whole.lost, whole.early) == (None, 40, 0, 0)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    truncated = check_video(path)
    assert truncated.problem is None
    assert truncated.frames < 36
    assert truncated.early == pytest.approx((40 - truncated.frames) / 25, abs=0.1)


def test_a_frame_that_does_not_decode_is_counted_as_lost(make_video):
    path = make_video("a.mkv", 40, options={"g": "10", "bf": "0"})
    packets = []
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    path.write_bytes(content.replace(packets[15], bytes(len(packets[15]))))
    damaged = check_video(path)
    assert (damaged.problem, damaged.frames, damaged.lost) == (None, 40, 1)


def test_a_picture_is_of_the_middle_frame(tmp_path):
    found = check_video(str(write_frames(tmp_path / "a", 9)), 16)
    assert (found.frames, found.size, found.picture.shape) == (9, 0, (12, 16, 3))
    assert found.picture[0, 0].tolist() == [4, 200, 10]


@pytest.mark.parametrize(
    ("labels", "counted"),
    [((-1, -1), None), ((0, 3_000_000_000), {"0": 1, "3000000000": 1}), ((1, -1), {"0": 0, "1": 1})],
)
def test_only_labels_that_are_listed_are_counted(labels, counted, tmp_path, capsys, make_video):
    paths = [make_video(f"{i}.mp4", 3) for i in range(2)]
    (tmp_path / "list.csv").write_text("".join(f"{path},{n}\n" for path, n in zip(paths, labels, strict=True)))
    argv = ["check-data", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out"), "--processes", "1"]
    assert main(argv) == 0
    assert json.loads((tmp_path / "out/statistics.json").read_text()).get("labels") == counted


def test_statistics_of_nothing_readable():
    numbers = statistics([Checked("a", "is empty")], VideoList(("a",)))
    assert numbers == {"videos": 1, "broken": 1, "with_lost_frames": 0, "ending_early": 0, "hours": 0.0, "sizes": {}}


def test_a_class_without_readable_videos_is_counted(tmp_path, capsys, make_video):
    path = make_video("a.mp4", 3)
    (tmp_path / "list.csv").write_text(f"{path},1\n{tmp_path}/absent.mp4,3\n")
    out = tmp_path / "out"
    assert main(["check-data", str(tmp_path / "list.csv"), "--out", str(out), "--processes", "1"]) == 1
    assert json.loads((out / "statistics.json").read_text())["labels"] == {"0": 0, "1": 1, "2": 0, "3": 0}
    assert "4 classes of 0 to 1 readable videos, 3 without any" in capsys.readouterr().out
    with Image.open(out / "contact_sheet.png") as sheet:
        assert np.asarray(sheet).std() > 0


def test_what_was_checked_before_a_process_died_is_reported(video_folder, tmp_path, monkeypatch, capsys):
    def two_of_them(videos, processes, pictures, width):
        yield from (check_video(videos.item(i), width if i in pictures else None) for i in range(2))
        raise MgmaeError("checking videos: 2 processes were killed at c.mp4")

    monkeypatch.setattr(check_data, "check_videos", two_of_them)
    out = tmp_path / "checked"
    assert main(["check-data", str(video_folder), "--out", str(out), "--processes", "2"]) == 1
    assert len((out / "videos.jsonl").read_text().splitlines()) == 2
    assert json.loads((out / "statistics.json").read_text())["labels"] == {"jump": 2, "run": 0}
    assert (out / "contact_sheet.png").exists()
    told = capsys.readouterr().err
    assert f"wrote {out}: only the first 2 of 5 videos" in told
    assert "were killed at c.mp4" in told


@pytest.mark.parametrize("command", [check_data, prepare])
def test_as_many_processes_as_cores_that_may_be_used(monkeypatch, command):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert command.parser().parse_args(["VIDEOS", "--out", "there"]).processes == 2
