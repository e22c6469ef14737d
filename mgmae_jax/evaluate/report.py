"""How good predictions are: accuracies with confidence intervals, class by class. Numpy only."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.evaluate.predictions import Predictions
from mgmae_jax.runtime.files import write_json

REPORT_FILE = "report.json"
CONFIDENCE = 0.95
RESAMPLES = 2000


class Interval(NamedTuple):
    """An accuracy from 0 to 1 with the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.2f}% ({100 * self.low:.2f} to {100 * self.high:.2f})"


class ClassResult(NamedTuple):
    """How many of a class's videos were recognised; `accuracy` is None if it has no videos."""

    name: str
    videos: int
    correct: int

    @property
    def accuracy(self) -> float | None:
        """Share of its videos that were recognised, from 0 to 1."""
        return self.correct / self.videos if self.videos else None


class Missing(NamedTuple):
    """A video that could not be read, and why. It counts neither as right nor as wrong."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of an evaluation.

    Attributes:
      videos: how many were counted.
      top1: share of them whose most probable class is the true one.
      top5: share of them whose true class is among the five most probable.
      mean_class: mean over the classes that have videos of the share recognised.
      classes: the result for every class, in the order of the labels.
      missing: videos that could not be read.
      split: hash of the list of videos and labels, including missing ones; see `VideoList.digest`.
      about: what was evaluated, as JSON can hold it: config, checkpoint, versions.
    """

    videos: int
    top1: Interval
    top5: Interval
    mean_class: Interval
    classes: tuple[ClassResult, ...]
    missing: tuple[Missing, ...]
    split: str
    about: Mapping[str, Any]

    def summary(self) -> str:
        """A few lines for the terminal."""
        lines = [
            f"top-1       {self.top1}",
            f"top-5       {self.top5}",
            f"mean class  {self.mean_class}",
            f"over {self.videos} videos; in brackets {100 * CONFIDENCE:.0f}% confidence intervals",
        ]
        return "\n".join(lines + _missing_lines(self.missing))


@dataclasses.dataclass(frozen=True)
class UnlabelledReport:
    """The result of an evaluation without labels: predictions, but no accuracy.

    Attributes:
      videos: how many have a prediction.
      predicted: each class's name with the number of videos that it is predicted for, in the order of the labels.
      missing: videos that could not be read.
      split: see `Report`.
      about: see `Report`.
    """

    videos: int
    predicted: tuple[tuple[str, int], ...]
    missing: tuple[Missing, ...]
    split: str
    about: Mapping[str, Any]

    def summary(self) -> str:
        """A few lines for the terminal."""
        often = sorted(self.predicted, key=lambda one: (-one[1], one[0]))[:5]
        lines = [
            f"no labels: predictions only, for {self.videos} videos",
            "most often  " + ", ".join(f"{name} ({count})" for name, count in often if count),
        ]
        return "\n".join(lines + _missing_lines(self.missing))


def _missing_lines(missing: Sequence[Missing]) -> list[str]:
    if not missing:
        return []
    shown = [f"  {path}: {reason}" for path, reason in missing[:10]]
    return [f"MISSING: {len(missing)} videos could not be read and are not counted", *shown]


def make_report(
    predictions: Predictions, missing: Sequence[Missing] = (), about: Mapping[str, Any] | None = None
) -> Report:
    """Counts predictions.

    Args:
      predictions: videos without a prediction do not count.
      missing: the videos that could not be read.
      about: see `Report`.

    Raises:
      MgmaeError: no video has a prediction.
    """
    known, names = _known(predictions), predictions.classes
    labels, best = _labels(predictions)[known], predictions.best[known]
    first = best[:, 0] == labels
    among = (best == labels[:, None]).any(axis=1)
    # Class by class: how many are recognised, are second to fifth, are neither.
    counts = np.zeros((len(names), 3), np.int64)
    np.add.at(counts, (labels, np.where(first, 0, np.where(among, 1, 2))), 1)
    top1, top5, mean_class = _intervals(counts)
    classes = tuple(ClassResult(name, int(row.sum()), int(row[0])) for name, row in zip(names, counts, strict=True))
    return Report(
        int(known.sum()),
        top1,
        top5,
        mean_class,
        classes,
        tuple(missing),
        predictions.videos.digest(ordered=False),
        about or {},
    )


def make_unlabelled_report(
    predictions: Predictions, missing: Sequence[Missing] = (), about: Mapping[str, Any] | None = None
) -> UnlabelledReport:
    """Counts predictions for videos without labels; see `make_report`."""
    known = _known(predictions)
    counts = np.bincount(predictions.best[known, 0], minlength=len(predictions.classes))
    predicted = tuple(zip(predictions.classes, counts.tolist(), strict=True))
    split = predictions.videos.digest(ordered=False)
    return UnlabelledReport(int(known.sum()), predicted, tuple(missing), split, about or {})


def _known(predictions: Predictions) -> np.ndarray:
    known = predictions.best[:, 0] >= 0
    if not known.any():
        raise MgmaeError("no video of the evaluation could be read: there is nothing to report.")
    return known


def _labels(predictions: Predictions) -> np.ndarray:
    if predictions.labels is None:
        raise ValueError("the videos have no labels")
    return predictions.labels


def _intervals(counts: Int[np.ndarray, "classes 3"]) -> list[Interval]:
    """Bootstrap over videos: a resample is multinomial in their counts, so no single video needs to be drawn."""
    total = counts.sum()
    drawn = np.random.default_rng(0).multinomial(total, (counts / total).ravel(), RESAMPLES).reshape(-1, *counts.shape)
    intervals = []
    for value, values in zip(_accuracies(counts[None]), _accuracies(drawn), strict=True):
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        intervals.append(Interval(float(value[0]), float(low), float(high)))
    return intervals


def _accuracies(counts: Int[np.ndarray, "draws classes 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top-1, top-5 and mean class accuracy of each draw."""
    sizes = counts.sum(axis=2)
    total = sizes.sum(axis=1)
    share = counts[..., 0] / np.maximum(sizes, 1)
    return (
        counts[..., 0].sum(axis=1) / total,
        counts[..., :2].sum(axis=(1, 2)) / total,
        share.sum(axis=1) / (sizes > 0).sum(axis=1),
    )


def confusion_matrix(predictions: Predictions) -> Int[np.ndarray, "classes classes"]:
    """Counts labelled videos by class (row) and prediction (column)."""
    known, classes = predictions.best[:, 0] >= 0, len(predictions.classes)
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (_labels(predictions)[known], predictions.best[known, 0]), 1)
    return matrix


def write_confusion(path: Path, matrix: Int[np.ndarray, "classes classes"], names: Sequence[str]) -> None:
    """Writes a confusion matrix as CSV, with the predicted classes as the header and the true classes in the first
    column.

    Raises:
      FileError: it cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerow(["true \\ predicted", *names])
            csv.writer(file).writerows([name, *row.tolist()] for name, row in zip(names, matrix, strict=True))
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror or error})") from error


def write_report(path: Path, report: Report | UnlabelledReport) -> None:
    """Writes a report as JSON, whole or not at all.

    Raises:
      FileError: it cannot be written.
    """
    accuracies: dict[str, Any] = {"labels": False}
    classes: list[dict[str, Any]]
    if isinstance(report, UnlabelledReport):
        classes = [{"name": name, "predicted": count} for name, count in report.predicted]
    else:
        accuracies = {name: getattr(report, name)._asdict() for name in ("top1", "top5", "mean_class")}
        accuracies["confidence"] = CONFIDENCE
        classes = [one._asdict() | {"accuracy": one.accuracy} for one in report.classes]
    content = {
        "videos": report.videos,
        **accuracies,
        "missing": [one._asdict() for one in report.missing],
        "split": report.split,
        "about": report.about,
        "classes": classes,
    }
    write_json(path, content, indent=1)


def read_report(path: Path) -> Report:
    """Reads what `write_report` wrote.

    Args:
      path: the file, or its folder.

    Raises:
      FileError: it cannot be read as a report, or has no accuracies since the videos had no labels.
    """
    file = path / REPORT_FILE if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.get("labels") is False:
            raise FileError(file, "has no accuracies, as the videos had no labels: evaluate a labelled list")
        top1, top5, mean_class = (
            Interval(*(content[name][end] for end in Interval._fields)) for name in ("top1", "top5", "mean_class")
        )
        return Report(
            content["videos"],
            top1,
            top5,
            mean_class,
            tuple(ClassResult(one["name"], one["videos"], one["correct"]) for one in content["classes"]),
            tuple(Missing(one["path"], one["reason"]) for one in content["missing"]),
            content["split"],
            content["about"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise FileError(file, f"cannot be read as a report of `mgmae evaluate` ({reason})") from error
