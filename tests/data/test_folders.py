import logging
import unicodedata

import pytest

from mgmae_jax.data.folders import EXTENSIONS, find_in_folder, is_video
from mgmae_jax.data.sources import read_source
from mgmae_jax.errors import FileError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("extension", [".mts", ".M2TS", ".vob", ".gif", ".asf", ".f4v", ".mxf", ".divx", ".MOV"])
def test_videos_of_cameras_and_discs_are_found(tmp_path, extension):
    touch(tmp_path, f"a{extension}", "b.txt")
    assert [str(path) for path in find_in_folder(tmp_path)] == [f"a{extension}"]


def test_extensions_are_in_lower_case_and_once():
    assert sorted(set(EXTENSIONS)) == list(EXTENSIONS)
    assert all(one == one.lower() and one.startswith(".") for one in EXTENSIONS)
    assert not is_video("audio.ogg")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no video: it is empty"),
        (["a.txt"], r"holds no video; its 1 file is \.txt \(1\) \(videos end in \.264 .*\.y4m\)"),
        (["1.jpg", "a/x.JPG", "x"], r"its 3 files are \.jpg \(2\), without extension \(1\) \(videos end in"),
        (["1.jpg", "2.JPG", "x"], "is itself a folder of frames, a single video: give the folder that it is in"),
        ([f"{i}.x{i}" for i in range(7)], r"its 7 files are \.x0 \(1\), .*\.x4 \(1\) and 2 other kinds"),
    ],
)
def test_a_folder_without_videos_says_what_it_holds(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(FileError, match=message):
        find_in_folder(tmp_path)


def test_files_that_may_be_videos_are_counted(tmp_path, caplog):
    touch(tmp_path, "run/a.mp4", "run/a.mp4.flow.npz", "run/a.txt", "run/b.insv", "jump/c.insv", "jump/d", ".e.insv")
    with caplog.at_level(logging.WARNING, "absl"):
        find_in_folder(tmp_path)
    assert caplog.messages == [f"{tmp_path}: 3 files left out: .insv (2), without extension (1)"]


def test_classes_called_by_numbers_are_sorted_by_value(tmp_path):
    touch(tmp_path, *(f"{i}/a.mp4" for i in range(12)))
    videos = read_source(tmp_path)
    assert videos.class_names == tuple(str(i) for i in range(12))
    assert [path.split("/")[-2] for path in videos.paths] == [videos.class_names[label] for label in videos.labels]
    touch(tmp_path, "run/a.mp4")  # then they are names
    assert read_source(tmp_path).class_names == tuple(sorted([*(str(i) for i in range(12)), "run"]))


def test_one_class_in_two_spellings_is_one(tmp_path):
    for form in ("NFC", "NFD"):
        touch(tmp_path, f"{unicodedata.normalize(form, 'café')}/{form}.mp4")
    touch(tmp_path, "bar/c.mp4")
    videos = read_source(tmp_path)
    assert videos.class_names == ("bar", unicodedata.normalize("NFC", "café"))
    assert sorted(videos.labels) == [0, 1, 1]
