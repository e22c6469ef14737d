import errno
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import pretrain_batches
from mgmae_jax.data.sources import SOURCES, VideoList, read_source
from mgmae_jax.datasets.official import read_official
from mgmae_jax.errors import ConfigError, FileError, VideoError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folder_of_classes(tmp_path):
    touch(tmp_path, "run/b.mp4", "jump/z.avi", "jump/A.MKV", "run/notes.txt", "run/._b.mp4", ".trash/c.mp4")
    videos = read_source(tmp_path)
    assert [os.path.relpath(path, tmp_path) for path in videos.paths] == ["jump/A.MKV", "jump/z.avi", "run/b.mp4"]
    assert videos.class_names == ("jump", "run")
    assert videos.labels == (0, 0, 1)
    assert len(videos) == 3
    assert pickle.loads(pickle.dumps(videos)) == videos


def test_folder_without_classes(tmp_path):
    touch(tmp_path, "b.mp4", "deep/down/a.webm")
    videos = read_source(str(tmp_path))
    assert videos == VideoList((str(tmp_path / "b.mp4"), str(tmp_path / "deep/down/a.webm")))


def test_a_digest_names_the_list_wherever_it_lies(tmp_path):
    touch(tmp_path, "here/a/x.mp4", "here/b/y.mp4", "there/a/x.mp4", "there/b/y.mp4")
    here, there = read_source(tmp_path / "here"), read_source(tmp_path / "there")
    assert here.digest() == there.digest()
    turned = here.take([1, 0])
    assert turned.digest() != here.digest()
    assert turned.digest(ordered=False) == here.digest(ordered=False)
    assert VideoList(here.paths).digest() != here.digest()
    assert VideoList(here.paths, (1, 0)).digest(ordered=False) != here.digest(ordered=False)


def test_linked_folders_are_followed_once(tmp_path):
    touch(tmp_path, "root/a/x.mp4", "elsewhere/y.mp4")
    (tmp_path / "root/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a/loop").symlink_to(tmp_path / "root")
    assert [os.path.basename(path) for path in read_source(tmp_path / "root").paths] == ["x.mp4", "y.mp4"]


def test_folder_without_videos(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(FileError, match=r"holds no video; its 1 file is \.txt \(1\) \(videos end in .*\.mp4"):
        read_source(tmp_path)


@pytest.mark.parametrize("name", ["absent", "absent.csv"])
def test_nothing_there(tmp_path, name):
    with pytest.raises(ConfigError, match=r"config\.data\.path='.*absent.*that exists"):
        read_source(tmp_path / name)


def test_a_file_of_another_kind(tmp_path):
    touch(tmp_path, "a.mp4")
    with pytest.raises(ConfigError, match=r"a list that ends in \.csv or \.jsonl"):
        read_source(tmp_path / "a.mp4")


def lines(tmp_path, text, name="list.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "paths", "labels", "class_names"),
    [
        ("a.mp4\nsub/b.mp4\n", ["a.mp4", "sub/b.mp4"], None, None),
        ("path,label\na.mp4,3\nb.mp4,1", ["a.mp4", "b.mp4"], (3, 1), None),
        ("\ufeffPath\r\na.mp4\r\n\r\n", ["a.mp4"], None, None),
        ("a.mp4,run\nb.mp4,jump\n", ["a.mp4", "b.mp4"], (1, 0), ("jump", "run")),
        ('"a, b.mp4",12,7\n', ["a, b.mp4"], (7,), None),
        ("a.mp4 3\nb.mp4 -1\n", ["a.mp4", "b.mp4"], (3, -1), None),
        ("a.mp4 120 3\nmy own b.MP4 90 1\n", ["a.mp4", "my own b.MP4"], (3, 1), None),
        ("a b.mp4\n", ["a b.mp4"], None, None),
        ("a.mp4 run\n", ["a.mp4"], (0,), ("run",)),
        ("clip\n", ["clip"], None, None),
    ],
)
def test_csv(tmp_path, text, paths, labels, class_names):
    expected = VideoList(tuple(str(tmp_path / path) for path in paths), labels, class_names)
    assert read_source(lines(tmp_path, text)) == expected


def test_absolute_paths_stay(tmp_path):
    assert read_source(lines(tmp_path, "/videos/a.mp4\n")).paths == ("/videos/a.mp4",)


def test_jsonl(tmp_path):
    text = '{"path": "a.mp4", "label": "run"}\n\n{"path": "b.mp4", "label": "jump", "more": 1}\n'
    videos = read_source(lines(tmp_path, text, "list.jsonl"))
    assert videos == VideoList((str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")), (1, 0), ("jump", "run"))
    assert read_source(lines(tmp_path, '{"path": "a.mp4"}', "list.jsonl")).labels is None
    assert read_source(lines(tmp_path, '{"path": "a.mp4", "label": 4}', "list.jsonl")).labels == (4,)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "", "lists no video"),
        ("list.csv", "path,label\n\n", "lists no video"),
        ("list.csv", "a.mp4,1\nb.mp4\n", "line 2: give every line a label, or none"),
        ("list.csv", "a.mp4\n,1\n", "line 2: is not `path`, `path,label`"),
        ("list.csv", "a.mp4,1,2,3\n", "line 1: is not `path`, `path,label`"),
        ("list.csv", "a 1 2 3\n", "line 1: separate the path from what follows by a comma"),
        ("list.csv", '"a.mp4,1\n', "line 1: "),
        ("list.csv", b"a.mp4\n\xff\xfe.mp4\n", "line 2: is not UTF-8 text"),
        ("list.csv", "a.mp4\n" + "b" * 70000, "line 2: is longer than 65536 bytes"),
        ("list.csv", "a.mp4," + "9" * 5000, "line 1: "),
        ("list.jsonl", '{"path": "a.mp4"\n', "line 1: is not JSON"),
        ("list.jsonl", "[" * 60000 + "\n", "line 1: is not JSON"),
        ("list.jsonl", '["a.mp4"]\n', 'line 1: is not an object with a "path"'),
        ("list.jsonl", '{"path": 3}\n', 'line 1: is not an object with a "path"'),
        ("list.jsonl", '{"path": "a.mp4", "label": 1.5}\n', "line 1: has a label that is neither"),
    ],
)
def test_bad_lists_name_the_line(tmp_path, name, text, message):
    path = lines(tmp_path, text, name)
    with pytest.raises(FileError, match=rf"{name}: {message}"):
        read_source(path)


def no_bad(name: str, reason: str) -> None:
    raise AssertionError(f"{name}: {reason}")


def open_member(name: str) -> BinaryIO:
    archive, _, member = name.partition(":")
    with zipfile.ZipFile(archive) as opened:
        return io.BytesIO(opened.read(member))


def read_zip(path: Path) -> VideoList:
    """The videos of an archive, labelled by their folders."""
    with zipfile.ZipFile(path) as opened:
        names = sorted(opened.namelist())
    labels = tuple(int(name.split("/")[0]) for name in names)
    return VideoList(tuple(f"{path}:{name}" for name in names), labels, opener=open_member)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_of_ones_own_trains_like_files(workers, tmp_path, make_video, monkeypatch):
    monkeypatch.setitem(SOURCES, ".zip", read_zip)
    paths = [make_video(f"{i % 2}/{i}.mp4", 12 + i) for i in range(3)]
    with zipfile.ZipFile(tmp_path / "videos.zip", "w") as archive:
        for i, path in enumerate(paths):
            archive.write(path, f"{i % 2}/{i}.mp4")
        archive.writestr("1/broken.mp4", b"not a video")
    packed = read_source(tmp_path / "videos.zip")
    kept = packed.take([0, 1, 2])
    files = VideoList(tuple(str(paths[int(Path(name).stem)]) for name in kept.paths), kept.labels)
    spec = BatchSpec(batch_size=3, views=1, seed=0, workers=workers)
    batches = []
    for videos in (kept, files):
        with pretrain_batches(videos, ClipSpec(4, 2, 32), spec, start_step=0, flow=None, on_bad=no_bad) as reader:
            batches.append(next(reader)["clip"])
    np.testing.assert_array_equal(*batches)
    with pytest.raises(VideoError, match=r"videos\.zip:1/broken\.mp4"), open_video(packed.item(3)):
        pass


def test_a_path_that_may_not_be_looked_at_is_told(tmp_path, monkeypatch):
    real = os.stat

    def refuse(path, *args, **kwargs):
        if str(path).startswith("/secret"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    for path in ("/secret/videos", "/secret/train.csv"):
        with pytest.raises(FileError, match=rf"^{path}: cannot be looked at \(Permission denied\): let this user"):
            read_source(path)
    with pytest.raises(FileError, match=r"^/secret: cannot be looked at \(Permission denied\)"):
        read_official(Path("/secret"), "hmdb51", "split1")


def test_a_digest_of_local_and_remote_videos_is_the_same_in_any_folder(tmp_path, monkeypatch):
    mixed = VideoList((str(tmp_path / "a/x.mp4"), str(tmp_path / "b.mp4"), "gs://bucket/b.mp4"))
    remote = VideoList(("gs://bucket/a/x.mp4", "gs://bucket/b.mp4"))
    found = set()
    for place in ("one", "two/deep"):
        (tmp_path / place).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / place)
        found.add((mixed.digest(), remote.digest()))
    assert len(found) == 1
    assert mixed.names() == ("a/x.mp4", "b.mp4", "gs:/bucket/b.mp4")
    assert remote.names() == ("a/x.mp4", "b.mp4")


def test_digests_stay_as_runs_have_written_them():
    assert VideoList(("/v/a/x.mp4", "/v/b/y.mp4"), (0, 1)).digest() == "bb01c0991beb2bdd"
    assert VideoList(("gs://bucket/a/x.mp4", "gs://bucket/b.mp4")).digest() == "1962bdf13a85a571"


@pytest.mark.parametrize("path", ["{}", "{}@train", "tfds:{}", "tfds:{}@train[:2]"])
@pytest.mark.parametrize("names", [["prepare.json"], ["prepare.json", "videos-train.array_record-00000-of-00001"],
                                   ["train.index.jsonl", "left_out.jsonl"]])  # fmt: skip
def test_records_that_are_not_finished_are_told(tmp_path, names, path):
    touch(tmp_path / "records", *names)
    message = rf"{tmp_path}/records: holds records that are not finished: give `mgmae prepare` the same command again"
    with pytest.raises(FileError, match=message):
        read_source(path.format(tmp_path / "records"))


def test_videos_beside_a_file_that_is_called_as_that_of_records_are_listed(tmp_path):
    touch(tmp_path, "a.mp4", "prepare.json")
    assert len(read_source(tmp_path)) == 1
