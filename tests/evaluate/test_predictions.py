import csv
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data.sources import LabelledVideos, VideoList
from mgmae_jax.errors import FileError
from mgmae_jax.evaluate.predictions import COLUMNS, PredictionFile, Predictions

NAMES = tuple(f"class {i}" for i in range(7))
VIDEOS = LabelledVideos(("a.mp4", 'b "x", y.mp4', "c\nd.mp4", "e.mp4"), (3, 0, 6, 1), NAMES)


def filled(places=range(4), seed=0):
    """Random predictions of some videos."""
    rng = np.random.default_rng(seed)
    predictions = Predictions.none(VIDEOS)
    for place in places:
        predictions.fill([place], rng.permutation(7)[:5].astype(np.int32), -np.sort(-rng.random(5, np.float32)))
    return predictions


def saved(path, places):
    """A file with the rows of some videos, in this order."""
    PredictionFile(path, predictions := filled([]))
    whole = filled()
    for place in places:
        predictions.fill([place], whole.best[place], whole.probabilities[place])
        file = PredictionFile(path, Predictions.none(VIDEOS))
        file._predictions = predictions
        file.append([place])
    return path.read_bytes()


def test_rows_come_back_bit_for_bit(tmp_path):
    file = PredictionFile(tmp_path / "p.csv", whole := filled())
    file.write_sorted()
    found = Predictions.none(VIDEOS)
    PredictionFile(tmp_path / "p.csv", found)
    np.testing.assert_array_equal(found.best, whole.best)
    np.testing.assert_array_equal(found.probabilities, whole.probabilities)
    assert found.todo.tolist() == []


def test_columns_say_what_they_hold(tmp_path):
    PredictionFile(tmp_path / "p.csv", whole := filled([0, 1]))
    with (tmp_path / "p.csv").open(newline="") as file:
        header, _, row = csv.reader(file)
    assert tuple(header) == COLUMNS
    best = whole.best[1].tolist()
    assert row[:4] == ["1", 'b "x", y.mp4', "0", str(best[0])]
    assert row[5] == " ".join(map(str, best))
    assert row[7:] == ["class 0", f"class {best[0]}"]


@given(cut=st.integers(0, 700))
def test_a_file_cut_anywhere_gives_whole_rows_and_takes_the_others(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "p.csv"
    content = saved(path, [2, 0, 1, 3])
    path.write_bytes(content[:cut])
    found, whole = Predictions.none(VIDEOS), filled()
    file = PredictionFile(path, found)
    known = np.setdiff1d(np.arange(4), found.todo)
    np.testing.assert_array_equal(found.best[known], whole.best[known])
    np.testing.assert_array_equal(found.probabilities[known], whole.probabilities[known])
    assert len(known) == 4 or cut < len(content)
    for place in found.todo.tolist():
        found.fill([place], whole.best[place], whole.probabilities[place])
        file.append([place])
    file.write_sorted()
    again = path.read_bytes()
    PredictionFile(path, whole).write_sorted()
    assert path.read_bytes() == again


def test_rows_of_another_list_are_refused(tmp_path):
    PredictionFile(tmp_path / "p.csv", filled())
    other = LabelledVideos(VIDEOS.paths, (3, 0, 6, 2), NAMES)
    with pytest.raises(FileError, match=r"line \d+: e\.mp4 is not this list's video"):
        PredictionFile(tmp_path / "p.csv", Predictions.none(other))


def test_another_table_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("path,label\na.mp4,3\n")
    with pytest.raises(FileError, match="has other columns"):
        PredictionFile(tmp_path / "p.csv", filled([]))


def test_a_folder_in_its_place_is_told(tmp_path):
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(FileError, match="cannot be written"):
        PredictionFile(tmp_path / "p.csv", filled([]))


@given(st.lists(st.binary(min_size=1).filter(lambda name: b"\0" not in name), min_size=2, unique=True), st.booleans())
def test_any_names_of_files_and_classes_come_back(tmp_path_factory, names, labelled):
    path = tmp_path_factory.mktemp("names") / "p.csv"
    texts = tuple(os.fsdecode(name) for name in names)
    videos = VideoList(texts, tuple(range(len(texts))) if labelled else None, texts)
    predictions = Predictions.none(videos)
    best = np.stack([np.roll(np.arange(len(texts)), i)[: predictions.best.shape[1]] for i in range(len(texts))])
    predictions.fill(range(len(texts)), best, np.zeros(best.shape, np.float32))
    file = PredictionFile(path, predictions)
    file.append([])
    found = Predictions.none(videos)
    PredictionFile(path, found)
    np.testing.assert_array_equal(found.best, predictions.best)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [os.fsencode(row["path"]) for row in rows] == names
    assert [row["label_name"] for row in rows] == (list(texts) if labelled else [""] * len(texts))


def test_rows_with_labels_are_not_those_of_a_list_without(tmp_path):
    PredictionFile(tmp_path / "p.csv", filled())
    with pytest.raises(FileError, match=r"line \d+: a\.mp4 is not this list's video"):
        PredictionFile(tmp_path / "p.csv", Predictions.none(VideoList(VIDEOS.paths, None, NAMES)))


def test_with_few_classes_all_are_kept():
    assert Predictions.none(LabelledVideos(VIDEOS.paths, (0,) * 4, NAMES[:3])).best.shape == (4, 3)
