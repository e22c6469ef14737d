import contextlib
import json
import logging
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data.lists import json_entry, read_csv, read_jsonl
from mgmae_jax.data.remote import open_video_file
from mgmae_jax.data.sources import read_source
from mgmae_jax.errors import ConfigError, FileError
from tests.data.test_remote import bucket

__all__ = ["bucket"]  # the fixture of gs://


def listed(folder: Path, text: str | bytes, name: str = "list.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a.mp4,007\nb.mp4,8\n", (7, 8)),
        ("a.mp4,007\nb.mp4,run\n", ("007", "run")),
        ("a.mp4,1e5\nb.mp4,run\n", ("1e5", "run")),
        ("a.mp4,-1\nb.mp4,99999999999999999999\n", (-1, 99999999999999999999)),
    ],
)
def test_labels_are_numbers_if_all_of_them_are(tmp_path, text, labels):
    assert read_csv(listed(tmp_path, text)).labels == labels


@pytest.mark.parametrize("label", ["1e5", "2.0", "1.", ".5", "nan", "inf", "+3", "-1.5E-3"])
def test_numbers_that_are_not_whole_are_told(tmp_path, label):
    path = listed(tmp_path, f"a.mp4,0\nb.mp4,{label}\nc.mp4,1\n")
    with pytest.raises(FileError, match=r"list\.csv: gives .*b\.mp4 the label '.*': give whole numbers") as told:
        read_csv(path)
    assert repr(label) in str(told.value)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (f"id;{'long caption ' * 30}", r"line 1: is the list separated by ';'\? Use commas"),
        (f"id;{'caption' * 60}", r"line 1: is the list separated by ';'\? Use commas"),
        (f"{'caption' * 60} 1 2", "line 1: separate the path from what follows by a comma"),
        ("caption" * 60, "line 1: looks like a header, but calls no column path"),
    ],
)
def test_a_line_longer_than_a_file_name_is_told(tmp_path, first, message):
    with pytest.raises(FileError, match=message):
        read_csv(listed(tmp_path, f"{first}\na.mp4\n"))


def test_a_long_line_after_a_folder_of_frames_is_none(tmp_path):
    for number in range(1, 4):
        (tmp_path / "frames").mkdir(exist_ok=True)
        (tmp_path / "frames" / f"{number}.png").touch()
    assert len(read_csv(listed(tmp_path, f"frames 1 2\n{'x' * 300} 1 3\n")).paths) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4,1\nb.mp4,2\n".encode("utf-16"), "list.csv: is UTF-16: save it as UTF-8"),
        ("a.mp4,1\nb.mp4,2\n".encode("utf-16-be"), "list.csv: is UTF-16: save it as UTF-8"),
        ("a.mp4,1\nb.mp4,2\n".encode("utf-16-le"), "list.csv: is UTF-16: save it as UTF-8"),
        (b"a.mp4,1\nb.mp4\0,2\n", "list.csv: line 2: holds zero bytes"),
        (b"PK\x03\x04abc", "is a spreadsheet or an archive"),
        (b"a.mp4,1\rb.mp4,2\r", "line 1: ends in CR alone"),
        (b"a.mp4,1\ncaf\xe9.mp4,2\n", "line 2: is not UTF-8 text, and no file has just this name"),
        ("clip,kind\na.mp4,run\n", "line 1: looks like a header, but calls no column path"),
        ("\nclip\na.mp4,run\n", "line 2: looks like a header"),
        ("frames,50,0\n", "line 1: 'frames' is a folder without frames: numbered pictures"),
        ("https://x.org/a.mp4,run\n", "line 1: 'https://x.org/a.mp4' is not a file here"),
    ],
)
def test_what_is_not_a_list_of_videos_is_told(tmp_path, text, message):
    (tmp_path / "frames").mkdir()
    with pytest.raises(FileError) as told:
        read_csv(listed(tmp_path, text))
    assert message in str(told.value)


def test_a_first_video_without_extension_is_not_a_header(tmp_path):
    (tmp_path / "clip").touch()
    assert [os.path.basename(path) for path in read_csv(listed(tmp_path, "clip\na.mp4\n")).paths] == ["clip", "a.mp4"]


def test_bytes_that_are_not_utf8_name_files(tmp_path):
    name = os.fsdecode(b"caf\xe9 0.mp4")
    (tmp_path / name).touch()
    listed_csv = read_csv(listed(tmp_path, b"a.mp4,run\ncaf\xe9 0.mp4,caf\xe9\n"))
    assert listed_csv.paths[1] == str(tmp_path / name)
    assert listed_csv.labels == ("run", os.fsdecode(b"caf\xe9"))
    text = json.dumps({"path": name, "label": name}).encode()
    assert read_jsonl(listed(tmp_path, text, "list.jsonl")) == ((str(tmp_path / name),), (name,), {})


@pytest.mark.parametrize(("inside", "outside"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_is_found_in_the_other_form_of_its_letters(tmp_path, inside, outside):
    name = unicodedata.normalize(outside, "café/naïve é.mp4")
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    for text in ("café/naïve é.mp4,3\n", f"{tmp_path}/café/naïve é.mp4,3\n", "café/gone é.mp4,3\n"):
        (path,) = read_csv(listed(tmp_path, unicodedata.normalize(inside, text))).paths
        assert os.path.exists(path) == ("gone" not in text)


def test_a_path_in_the_other_form_is_not_warned_of(tmp_path, caplog):
    (tmp_path / unicodedata.normalize("NFD", "é.mp4")).touch()
    with caplog.at_level(logging.WARNING, "absl"):
        read_csv(listed(tmp_path, unicodedata.normalize("NFC", "é.mp4,0\n")))
    assert not caplog.messages


def test_labels_before_paths_are_told(tmp_path):
    for name in ("a.mp4", "b c.mp4"):
        (tmp_path / name).touch()
    message = r"list\.csv: has labels before the paths: give the path first \('0 a\.mp4'\)"
    with pytest.raises(FileError, match=message):
        read_csv(listed(tmp_path, "0 a.mp4\n12 b c.mp4\n"))
    (tmp_path / "0 a.mp4").touch()
    assert read_csv(listed(tmp_path, "0 a.mp4\n")).paths == (f"{tmp_path}/0 a.mp4",)


@pytest.mark.parametrize("empty", ["null", '""', '" "'])
def test_an_empty_label_of_json_is_none(tmp_path, empty):
    lines = [f'{{"path": "a.mp4", "label": {label}}}\n' for label in (empty, empty, '"x"')]
    assert read_jsonl(listed(tmp_path, "".join(lines[:2]), "list.jsonl")).labels is None
    with pytest.raises(FileError, match="line 3: give every line a label, or none"):
        read_jsonl(listed(tmp_path, "".join(lines), "list.jsonl"))


def test_paths_from_the_current_folder_are_told(tmp_path, monkeypatch):
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "clips" / name).touch()
    monkeypatch.chdir(tmp_path)
    path = listed(tmp_path / "lists", "clips/a.mp4,0\nclips/b.mp4,1\n")
    message = f"^{path}: paths count from the list's folder, {path.parent}, and 'clips/a.mp4' is not there but in the "
    with pytest.raises(FileError, match=f"{message}current folder: give '../clips/a.mp4', or an absolute path"):
        read_csv(path)
    assert len(read_csv(listed(tmp_path, "clips/a.mp4\nclips/b.mp4\n")).paths) == 2


def test_missing_first_videos_are_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "absl"):
        read_csv(listed(tmp_path, "sub\\a.mp4,0\nb.mp4,1\n"))
        (tmp_path / "b.mp4").touch()
        read_csv(listed(tmp_path, "a.mp4,0\nb.mp4,1\n", "there.csv"))
    (warning,) = caplog.messages
    assert f"list.csv: paths count from the list's folder, {tmp_path}, and 'sub\\\\a.mp4' is not there" in warning
    assert "write / for" in warning


def test_lists_and_videos_may_be_in_a_bucket(tmp_path, bucket):
    bucket.pipe("gs://b/lists/train.csv", b"path,label\na/1.mp4,run\ngs://c/2.mp4,jump\n")
    videos = read_source("gs://b/lists/train.csv")
    assert videos.paths == ("gs://b/lists/a/1.mp4", "gs://c/2.mp4")
    assert (videos.labels, videos.class_names, videos.opener) == ((1, 0), ("jump", "run"), open_video_file)
    here = read_source(listed(tmp_path, "gs://c/2.mp4,0\na.mp4,1\n"))
    assert here.paths == ("gs://c/2.mp4", f"{tmp_path}/a.mp4")
    assert here.opener is open_video_file
    with pytest.raises(FileError, match=r"^gs://b/lists/gone\.csv: cannot be opened"):
        read_source("gs://b/lists/gone.csv")
    with pytest.raises(ConfigError, match=r"config\.eval\.path='gs://b/lists': give a list that ends in \.csv or"):
        read_source("gs://b/lists", "eval.path")
    bucket.pipe("gs://b/bad.csv", b"a.mp4;0\n")
    with pytest.raises(FileError, match=r"^gs://b/bad\.csv: line 1: is the list separated by ';'"):
        read_source("gs://b/bad.csv")


@given(st.text())
def test_any_line_of_json_is_an_entry_or_an_error(text):
    with contextlib.suppress(ValueError):
        assert json_entry(text).path


@given(st.text(st.characters(blacklist_categories=[]), min_size=1))
def test_any_text_in_json_can_be_stored_or_is_refused(name):
    try:
        entry = json_entry(json.dumps({"path": name, "label": name}))
    except ValueError as error:
        assert "half a character" in str(error)  # noqa: PT017
        return
    assert entry.label is None or entry.label == os.fsdecode(os.fsencode(entry.label))
