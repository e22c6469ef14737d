import contextlib
import errno
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.data.decode import Item, open_video
from mgmae_jax.data.encode import Encoding, encode_again
from mgmae_jax.data.record_writer import Row, ShardTask, write_shard
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.datasets.listed import ListedSplit, own_split
from mgmae_jax.datasets.prepare import common_classes, in_processes, on_beam, prepare
from mgmae_jax.errors import FileError, InUseError, MgmaeError, VideoError


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def hmdb(fakes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "hmdb"
    argv = ["prepare", "hmdb51/split1", "--manual-dir", str(fakes["hmdb51"]), "--out", str(out)]
    assert main([*argv, "--short-side", "32", "--key-frames", "4", "--processes", "1"]) == 0
    return out


def test_a_published_data_set_becomes_records(hmdb):
    train, test = read_source(hmdb), read_source(str(hmdb), "eval.path")
    assert (len(train), len(test)) == (12, 4)
    assert train.class_names == ("brush_hair", "cartwheel", "catch", "wave")
    assert not list(hmdb.glob(".*"))
    with open_video(train.item(0)) as video:
        assert video.frame_size == (32, 42)
        assert video.frames == 20
        assert list(np.diff(np.searchsorted(video.timeline.shown, video.timeline.keys))) == [4, 4, 4, 4]


def test_records_are_the_same_by_any_number_of_processes(fakes, hmdb, tmp_path):
    argv = ["prepare", "hmdb51", "--manual-dir", str(fakes["hmdb51"]), "--out", str(tmp_path / "again")]
    assert main([*argv, "--short-side", "32", "--key-frames", "4", "--processes", "2"]) == 0
    assert content(tmp_path / "again") == content(hmdb)


@pytest.mark.slow
def test_killed_at_any_step_and_run_again_the_records_are_the_same(fakes, tmp_path):
    videos = tmp_path / "videos"
    for i, path in enumerate(sorted(fakes["ucf101_videos"].rglob("*.avi"))[:2]):
        (videos / f"class{i}").mkdir(parents=True)
        (videos / f"class{i}" / path.name).write_bytes(path.read_bytes())
    script = Path(__file__).parent / "kill_prepare.py"
    found = subprocess.run([sys.executable, script, videos, tmp_path], capture_output=True, text=True, check=True)
    steps = found.stdout.splitlines()
    assert steps == [f"{step} True" for step in range(len(steps))]
    assert len(steps) == 2 * (1 + 2 * 2 + 1 + 3)  # prepare.json, two shards with their parts, the index, the rest


def test_a_shard_that_is_there_is_not_written_again(fakes, tmp_path, monkeypatch, video_list):
    stopped = []

    def run_one(write, tasks):
        yield write(tasks[0])
        stopped.append(tasks[0].path)
        raise KeyboardInterrupt

    splits = {"train": video_list}
    with pytest.raises(KeyboardInterrupt):
        prepare(splits, tmp_path / "out", "videos", None, run_one, lambda done, total: None)
    before = Path(stopped[0]).stat().st_ino
    done = []
    prepare(splits, tmp_path / "out", "videos", None, in_processes(1), lambda *counts: done.append(counts))
    assert Path(stopped[0]).stat().st_ino == before
    assert done == [(i, 4) for i in range(5)]


@pytest.fixture
def video_list(fakes) -> ListedSplit:
    paths = sorted(fakes["ucf101_videos"].rglob("*.avi"))[:4]
    return own_split(VideoList(tuple(map(str, paths)), (0, 1, 1, 0), ("jump", "run")), "list")


def test_other_videos_or_another_encoding_need_another_folder(fakes, hmdb):
    argv = ["prepare", "hmdb51", "--manual-dir", str(fakes["hmdb51"]), "--out", str(hmdb), "--short-side"]
    assert main([*argv, "32", "--key-frames", "4"]) == 0  # all is there
    before = content(hmdb)
    assert main([*argv, "32", "--key-frames", "5"]) == 1
    assert content(hmdb) == before


def test_a_folder_with_other_files_is_left_alone(tmp_path, video_list, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FileError, match="is not empty"):
        prepare({"train": video_list}, tmp_path, "videos", None, in_processes(1), lambda *counts: None)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_and_a_foreign_plan_are_no_folder_of_records(tmp_path, video_list):
    (tmp_path / "file").write_text("dear")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/prepare.json").write_text("[]")
    for name, message in (("file", "is a file: give a folder"), ("other", "not a JSON object.*give another --out")):
        with pytest.raises(FileError, match=message):
            prepare({"train": video_list}, tmp_path / name, "videos", None, in_processes(1), lambda *counts: None)


def test_shards_that_were_deleted_are_written_again(tmp_path, video_list):
    def made(done):
        prepare({"train": video_list}, tmp_path, "videos", None, in_processes(1), lambda *counts: done.append(counts))

    made([])
    before, done = content(tmp_path), []
    for number in (1, 2):
        (tmp_path / f"videos-train.array_record-0000{number}-of-00004").unlink()
    absent = r"00001-of-00004 cannot be read .*there is no such file.*prepare the videos again"
    with pytest.raises(VideoError, match=absent), open_video(read_source(tmp_path).item(1)):
        pass
    made(done)
    assert done == [(0, 2), (1, 2), (2, 2)]
    assert content(tmp_path) == before
    (tmp_path / "videos-train.array_record-00003-of-00004").unlink()
    changed = ListedSplit(VideoList((*video_list.videos.paths[:3], "absent.avi"), *(
        getattr(video_list.videos, name) for name in ("labels", "class_names"))), video_list.names)  # fmt: skip
    with pytest.raises(FileError, match=r"cannot be written again: \S+ has changed since; delete the folder"):
        prepare({"train": changed}, tmp_path, "videos", None, in_processes(1), lambda *counts: None)
    made([])
    assert content(tmp_path) == before


def test_a_shard_that_was_deleted_before_the_end_is_written_again(tmp_path, video_list):
    def run_two(write, tasks):
        yield from map(write, tasks[:2])
        Path(tasks[0].path).unlink()
        raise KeyboardInterrupt

    for run in (run_two, in_processes(1)):
        with contextlib.suppress(KeyboardInterrupt):
            prepare({"train": video_list}, tmp_path / "out", "videos", None, run, lambda *counts: None)
    prepare({"train": video_list}, tmp_path / "whole", "videos", None, in_processes(1), lambda *counts: None)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_videos_that_cannot_be_read_are_left_out_and_listed(tmp_path, video_list):
    videos = tmp_path / "videos"
    videos.mkdir()
    for i, path in enumerate(video_list.videos.paths):
        (videos / f"{i}.avi").write_bytes(b"not a video" if i == 1 else Path(path).read_bytes())
    out = tmp_path / "out"
    assert main(["prepare", str(videos), "--out", str(out), "--processes", "1"]) == 0
    (left_out,) = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    assert (left_out["split"], left_out["path"]) == ("train", "1.avi")
    assert "cannot be read as a video" in left_out["reason"]
    assert read_source(out).paths == ("0.avi", "2.avi", "3.avi")
    with open_video(read_source(out).item(1)) as video:
        assert video.path == "2.avi"


def test_without_a_readable_video_there_are_no_records(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_text("no")
    assert main(["prepare", str(tmp_path / "videos"), "--out", str(tmp_path / "out"), "--processes", "1"]) == 1
    assert not (tmp_path / "out/dataset_info.json").exists()


def test_splits_share_their_classes(video_list):
    other = ListedSplit(VideoList(("a.mp4",), (0,), ("hop",)), ("a.mp4",))
    unlabelled = ListedSplit(VideoList(("a.mp4",)), ("a.mp4",))
    assert common_classes({"train": unlabelled, "test": video_list}) == ("jump", "run")
    assert common_classes({"train": unlabelled}) == ()
    with pytest.raises(MgmaeError, match="test: has the class 'hop', which train has not"):
        common_classes({"train": video_list, "test": other})


def test_splits_of_ones_own_and_labels_as_numbers(tmp_path, video_list):
    for name, labels in (("train", (0, 2, 2)), ("test", (2, 0, 2))):
        lines = [f"{path},{label}\n" for path, label in zip(video_list.videos.paths, labels, strict=False)]
        (tmp_path / f"{name}.csv").write_text("".join(lines))
    out = tmp_path / "out"
    argv = ["prepare", f"train={tmp_path}/train.csv", f"test={tmp_path}/test.csv", "--out", str(out)]
    assert main([*argv, "--processes", "1", "--name", "mine"]) == 0
    assert read_source(out).labels == (0, 2, 2)
    assert read_source(str(out), "eval.path").labels == (2, 0, 2)
    assert (out / "mine-test.array_record-00000-of-00003").exists()
    assert (
        main(["prepare", str(out), "--out", str(tmp_path / "smaller"), "--short-side", "32", "--processes", "1"]) == 0
    )
    assert read_source(tmp_path / "smaller").names() == read_source(out).names()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["kinetics", "--out", "{tmp}/out"], "kinetics: give it alone, with --manual-dir DIR: The folder holds"),
        (["{list}", "{list}", "--out", "{tmp}/out"], "there are two sources for train"),
        (["{tmp}/none", "--out", "{tmp}/out"], "SOURCE: '.*none': give a folder of videos"),
        (["{list}", "--out", "{tmp}/out", "--name", "My-Own"], "'My-Own': give --name of small letters"),
        (["all={list}", "--out", "{tmp}/out"], "'all': give a split another name: TFDS calls all splits together so"),
        (
            ["{numbers}", "--out", "{tmp}/out"],
            "numbers.csv: gives a video the label 3000000000: number the classes from",
        ),
        (["{list}", "--out", "{tmp}/out", "--short-side", "3"], "--short-side 3: give 16 to 8192"),
        (["{list}", "--out", "{tmp}/out", "--key-frames", "0"], "--key-frames 0: give 1 to 10000"),
    ],
)
def test_what_cannot_be_prepared_is_named(tmp_path, video_list, capsys, argv, message):
    (tmp_path / "list.csv").write_text(f"{video_list.videos.paths[0]}\n")
    (tmp_path / "numbers.csv").write_text(f"{video_list.videos.paths[0]},3000000000\n")
    lists = {"list": tmp_path / "list.csv", "numbers": tmp_path / "numbers.csv"}
    assert main(["prepare", *[one.format(tmp=tmp_path, **lists) for one in argv]]) == 1
    assert message.split(".*")[0] in capsys.readouterr().err


@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_encoding_again_gives_the_same_bytes(codec):
    frames = np.random.default_rng(0).integers(0, 255, (5, 33, 50, 3), np.uint8)
    one, two = (encode_again(frames, (33, 50), 0, Encoding(24, 2, codec)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("side", "size", "expected"),
    [(None, (33, 50), (32, 50)), (24, (33, 50), (24, 36)), (256, (240, 320), (240, 320)), (64, (1, 9), (2, 8))],
)
def test_frames_are_scaled_down_to_even_sides(side, size, expected):
    assert Encoding(side).size(*size) == expected


def test_beam_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(MgmaeError, match=r"--runner DirectRunner: needs apache-beam .*pip install 'mgmae-jax\[beam\]'"):
        on_beam("DirectRunner", [])


@pytest.mark.parametrize(("runner", "options"), [("FooRunner", []), ("DataflowRunner", [])])
def test_a_runner_that_beam_rejects_is_named(runner, options):
    pytest.importorskip("apache_beam", reason="needs apache-beam: pip install '.[beam]'")
    with pytest.raises(MgmaeError, match=f"--runner {runner}, or --beam-options: "):
        on_beam(runner, options)


def test_what_beam_writes_is_what_processes_write(fakes, hmdb, tmp_path):
    pytest.importorskip("apache_beam", reason="needs apache-beam: pip install '.[beam]'")
    argv = ["prepare", "hmdb51", "--manual-dir", str(fakes["hmdb51"]), "--out", str(tmp_path / "again")]
    assert main([*argv, "--short-side", "32", "--key-frames", "4", "--runner", "DirectRunner"]) == 0
    assert content(tmp_path / "again") == content(hmdb)


def test_no_command_imports_tensorflow(fakes, tmp_path):
    """Even where it is installed: here it looks as if it were, and an import would end the process."""
    code = f"""
import importlib, importlib.machinery, sys
class Installed:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "tensorflow" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        sys.exit("tensorflow is imported")
sys.meta_path.insert(0, Installed())
from mgmae_jax.cli import COMMANDS, main
for name in COMMANDS:
    importlib.import_module("mgmae_jax.commands." + name.replace("-", "_"))
out = {str(tmp_path / "out")!r}
main(["prepare", "hmdb51", "--manual-dir", {str(fakes["hmdb51"])!r}, "--out", out, "--processes", "1"])
main(["check-data", "tfds:" + out + "@test", "--out", out + "/checked", "--processes", "1"])
print("tensorflow" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.splitlines()[-1:] == ["False"], found.stderr


@pytest.mark.parametrize("encoding", [None, Encoding(32)], ids=["as it is", "encoded again"])
def test_a_video_that_cannot_be_opened_is_left_out(tmp_path, video_list, encoding):
    def refuse(name: str) -> BinaryIO:
        raise FileNotFoundError(errno.ENOENT, "no such file")

    rows = (
        Row(Item("gs://b/gone.mp4", refuse), "gone.mp4", -1, None),
        Row(video_list.videos.paths[0], "a.avi", -1, None),
    )
    task = ShardTask(str(tmp_path / "shard"), str(tmp_path / "listing.jsonl"), rows, encoding)
    assert write_shard(task) == 2
    gone, there = [json.loads(line) for line in (tmp_path / "listing.jsonl").read_text().splitlines()]
    assert gone == {"path": "gone.mp4", "left_out": "cannot be read as a video (no such file)"}
    assert there["path"] == "a.avi"


@pytest.mark.parametrize("encoding", [None, Encoding(32)], ids=["as it is", "encoded again"])
def test_a_bucket_out_of_reach_stops_it(tmp_path, video_list, encoding):
    def expired(name: str) -> BinaryIO:
        raise OSError(errno.EIO, "the credentials have expired")

    rows = (Row(Item("gs://b/a.mp4", expired), "a.mp4", -1, None),)
    task = ShardTask(str(tmp_path / "shard"), str(tmp_path / "listing.jsonl"), rows, encoding)
    with pytest.raises(FileError, match=r"gs://b/a\.mp4: .*the credentials have expired.*run the same command again"):
        write_shard(task)
    assert not list(tmp_path.glob("*shard*"))
    assert not (tmp_path / "listing.jsonl").exists()


class ClientError(Exception):
    """What a bucket's package may raise while it reads."""


@pytest.mark.parametrize("encoding", [None, Encoding(32)], ids=["as it is", "encoded again"])
@pytest.mark.parametrize(
    ("name", "failure", "stops"),
    [
        ("gs://b/a.avi", ClientError("the token has expired"), True),
        ("gs://b/a.avi", PermissionError("forbidden"), True),
        ("gs://b/a.avi", FileNotFoundError(errno.ENOENT, "no such file"), False),
        ("a.avi", TimeoutError("timed out"), True),
        ("a.avi", ConnectionResetError(errno.ECONNRESET, "reset"), True),
        ("a.avi", OSError(errno.ENETUNREACH, "no network"), True),
        ("a.avi", OSError(errno.EHOSTUNREACH, "no route"), True),
        ("a.avi", PermissionError(errno.EACCES, "denied"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_a_failure_while_a_video_is_read_is_not_the_videos(tmp_path, video_list, name, failure, stops, encoding):
    content = Path(video_list.videos.paths[0]).read_bytes()

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= len(content) // 2 or size in (None, -1) or size > len(content):
                raise failure
            return super().read(min(size, len(content) // 4))

    rows = (Row(Item(name, lambda name: Failing(content)), name, -1, None),)
    task = ShardTask(str(tmp_path / "shard"), str(tmp_path / "listing.jsonl"), rows, encoding)
    if stops:
        with pytest.raises(FileError, match=r"a\.avi: .*run the same command again"):
            write_shard(task)
    else:
        write_shard(task)
    assert (tmp_path / "listing.jsonl").exists() != stops


def test_a_damaged_video_in_a_bucket_is_left_out(tmp_path):
    rows = (Row(Item("gs://b/a.avi", lambda name: io.BytesIO(b"no video" * 1000)), "a.avi", -1, None),)
    for encoding in (None, Encoding(32)):
        write_shard(ShardTask(str(tmp_path / "shard"), str(tmp_path / f"{encoding}.jsonl"), rows, encoding))


def test_two_commands_do_not_write_into_one_folder(tmp_path, video_list):
    def run_meanwhile(write, tasks):
        with pytest.raises(InUseError, match=r"out is in use by process \d+ on .*another --out"):
            prepare({"train": video_list}, tmp_path / "out", "videos", None, in_processes(1), lambda *counts: None)
        yield from map(write, tasks)

    prepare({"train": video_list}, tmp_path / "out", "videos", None, run_meanwhile, lambda *counts: None)
    assert not (tmp_path / "out/.lock").exists()
    prepare({"train": video_list}, tmp_path / "out", "videos", None, in_processes(1), lambda *counts: None)


def test_once_its_videos_are_repaired_the_same_command_works(tmp_path, video_list, capsys):
    for split, content in (("train", Path(video_list.videos.paths[0]).read_bytes()), ("test", b"no")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.avi").write_bytes(content)
    out = tmp_path / "out"
    argv = ["prepare", f"train={tmp_path}/train", f"test={tmp_path}/test", "--out", str(out), "--processes", "1"]
    for _ in range(2):
        assert main(argv) == 1
        told = capsys.readouterr().err
        assert f"{out}: none of the videos of test can be read (the first, a.avi: cannot be read as a video" in told
        assert "): repair them, and give the same command again" in told
    (tmp_path / "test/a.avi").write_bytes(Path(video_list.videos.paths[1]).read_bytes())
    assert main(argv) == 0
    assert [len(read_source(f"{out}@{split}")) for split in ("train", "test")] == [1, 1]


def test_records_by_name_and_folders_called_like_a_data_set_are_sources(hmdb, tmp_path, monkeypatch, capsys):
    shutil.copytree(hmdb, tmp_path / "hmdb51/split1/1.0.0")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert main(["prepare", "tfds:hmdb51/split1@test", "--out", str(tmp_path / "one"), "--processes", "1"]) == 0
    assert read_source(tmp_path / "one").names() == read_source(f"{hmdb}@test").names()
    (tmp_path / "kinetics/train").mkdir(parents=True)
    (tmp_path / "kinetics/train/a.avi").write_bytes(b"no")
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "kinetics/train", "--out", str(tmp_path / "two"), "--processes", "1"]) == 1
    assert "none of the videos of train can be read (the first, a.avi: " in capsys.readouterr().err
    assert main(["prepare", "kinetics/val", "--out", str(tmp_path / "three"), "--processes", "1"]) == 1
    assert "kinetics/val: there is no such variant: give kinetics/400" in capsys.readouterr().err
