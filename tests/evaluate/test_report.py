import dataclasses
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data.sources import LabelledVideos
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.evaluate.predictions import Predictions
from mgmae_jax.evaluate.report import (
    ClassResult,
    Missing,
    confusion_matrix,
    make_report,
    make_unlabelled_report,
    read_report,
    write_confusion,
    write_report,
)


def predictions_of(labels, best, classes):
    names = tuple(f"class {i}" for i in range(classes))
    predictions = Predictions.none(
        LabelledVideos(tuple(f"videos/{i}.mp4" for i in range(len(labels))), tuple(labels), names)
    )
    best = np.asarray(best, np.int32)
    predictions.fill(range(len(labels)), best, np.zeros(best.shape, np.float32))
    return predictions


def report_of(labels, best, classes, missing=()):
    return make_report(predictions_of(labels, best, classes), missing, {"checkpoint": "here"})


# Seven classes; the true class is first, fifth, absent, first, second; the last video is not known.
LABELS = [0, 0, 1, 2, 2, 2]
BEST = [
    [0, 1, 2, 3, 4],
    [1, 2, 3, 4, 0],
    [0, 2, 3, 4, 5],
    [2, 1, 0, 3, 4],
    [1, 2, 0, 3, 4],
    [-1, -1, -1, -1, -1],
]


def test_accuracies_by_hand():
    report = report_of(LABELS, BEST, 7, [Missing("videos/5.mp4", "is empty")])
    assert report.videos == 5
    assert report.top1.value == 2 / 5
    assert report.top5.value == 4 / 5
    assert report.mean_class.value == pytest.approx((1 / 2 + 0 / 1 + 1 / 2) / 3)
    assert [(one.videos, one.correct, one.accuracy) for one in report.classes[:4]] == [
        (2, 1, 0.5), (1, 0, 0.0), (2, 1, 0.5), (0, 0, None),
    ]  # fmt: skip
    assert "MISSING: 1 videos" in report.summary()
    assert "videos/5.mp4: is empty" in report.summary()
    assert "top-1       40.00%" in report.summary()


def test_confusion_by_hand():
    matrix = confusion_matrix(predictions_of(LABELS, BEST, 7))
    assert matrix.sum() == 5
    assert matrix[:3, :3].tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 1]]


def test_nothing_known_is_an_error_and_not_zero_percent():
    with pytest.raises(MgmaeError, match="no video of the evaluation could be read"):
        report_of([0], [[-1, -1]], 2)


@given(seed=st.integers(0, 99), videos=st.integers(1, 60), classes=st.integers(1, 12))
def test_intervals_hold_the_value_and_the_matrix_sums_to_the_report(seed, videos, classes):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=videos).tolist()
    best = np.stack([rng.permutation(classes)[: min(5, classes)] for _ in range(videos)])
    report = report_of(labels, best, classes)
    for interval in (report.top1, report.top5):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert 0 <= report.mean_class.low <= report.mean_class.high <= 1
    assert report.top1.value <= report.top5.value
    matrix = confusion_matrix(predictions_of(labels, best, classes))
    assert matrix.trace() == round(report.top1.value * videos)
    assert matrix.sum(axis=1).tolist() == [one.videos for one in report.classes]
    assert report == report_of(labels, best, classes)


def test_the_interval_of_many_videos_is_that_of_the_normal_distribution():
    labels = [0] * 1000
    best = [[0, 1]] * 700 + [[1, 0]] * 300
    interval = report_of(labels, best, 2).top1
    reach = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert interval.low == pytest.approx(0.7 - reach, abs=0.004)
    assert interval.high == pytest.approx(0.7 + reach, abs=0.004)


def test_a_report_comes_back(tmp_path):
    report = report_of(LABELS, BEST, 7, [Missing("videos/5.mp4", "is empty")])
    write_report(tmp_path / "out" / "report.json", report)
    assert read_report(tmp_path / "out") == report == read_report(tmp_path / "out" / "report.json")


@pytest.mark.parametrize("content", ["", "[]", '{"videos": 3}', None])
def test_a_file_that_is_no_report_is_named(tmp_path, content):
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FileError, match=r"report\.json: cannot be read as a report"):
        read_report(path)


def test_without_labels_there_are_counts_and_no_accuracy(tmp_path):
    labelled = predictions_of(LABELS, BEST, 7)
    predictions = Predictions(dataclasses.replace(labelled.videos, labels=None), labelled.best, labelled.probabilities)
    report = make_unlabelled_report(predictions, [Missing("videos/5.mp4", "is empty")], {"checkpoint": "here"})
    assert report.predicted[:3] == (("class 0", 2), ("class 1", 2), ("class 2", 1))
    assert report.summary().splitlines()[:2] == [
        "no labels: predictions only, for 5 videos",
        "most often  class 0 (2), class 1 (2), class 2 (1)",
    ]
    assert "videos/5.mp4: is empty" in report.summary()
    write_report(tmp_path / "report.json", report)
    content = json.loads((tmp_path / "report.json").read_text())
    assert set(content) == {"videos", "labels", "missing", "split", "about", "classes"}
    assert content["labels"] is False
    assert content["classes"][2] == {"name": "class 2", "predicted": 1}
    with pytest.raises(FileError, match=r"report\.json: has no accuracies, as the videos had no labels"):
        read_report(tmp_path)


def test_names_that_are_not_utf8_come_back(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    report = dataclasses.replace(
        report_of(LABELS, BEST, 7, [Missing(f"{name}.mp4", "is empty")]), classes=(ClassResult(name, 1, 1),)
    )
    write_report(tmp_path / "report.json", report)
    assert read_report(tmp_path) == report
    write_confusion(tmp_path / "confusion.csv", np.eye(2, dtype=int), [name, "b"])
    rows = (tmp_path / "confusion.csv").read_bytes().splitlines()
    assert rows == [b"true \\ predicted,caf\xe9,b", b"caf\xe9,1,0", b"b,0,1"]


def test_a_split_is_known_wherever_its_folder_lies():
    videos = LabelledVideos(("/a/x/1.mp4", "/a/y/2.mp4"), (0, 1), ("x", "y"))
    moved = LabelledVideos(("/b/c/y/2.mp4", "/b/c/x/1.mp4"), (1, 0), ("x", "y"))
    assert videos.digest(ordered=False) == moved.digest(ordered=False)
    assert videos.digest(ordered=False) != dataclasses.replace(videos, labels=(0, 0)).digest(ordered=False)
    assert videos.digest(ordered=False) != videos.take([0]).digest(ordered=False)
