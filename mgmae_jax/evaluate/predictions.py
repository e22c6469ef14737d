"""A classifier's prediction for each video, kept in a CSV file from which an interrupted evaluation resumes."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mgmae_jax.data.sources import VideoList
from mgmae_jax.errors import FileError
from mgmae_jax.runtime.files import write_text

PREDICTIONS_FILE = "predictions.csv"
COLUMNS: tuple[str, ...] = ("video", "path", "label", "prediction", "probability", "top5", "top5_probabilities")
COLUMNS += ("label_name", "prediction_name")
_BEST = 5  # classes kept for each video


def kept(classes: int) -> int:
    """How many of the most probable classes are kept for a video, K: 5, or all if there are fewer."""
    return min(_BEST, classes)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The most probable classes of videos.

    Attributes:
      videos: all videos of the list, with the classifier's names of the classes. Labels are indices into them, or None.
      best: int32 [N, K], the most probable first; -1 where the video has no prediction (yet).
      probabilities: float32 [N, K], their probabilities.
    """

    videos: VideoList
    best: Int[np.ndarray, "N K"]
    probabilities: Float[np.ndarray, "N K"]

    @classmethod
    def none(cls, videos: VideoList) -> Predictions:
        """No prediction for any video."""
        shape = (len(videos), kept(len(videos.class_names or ())))
        return cls(videos, np.full(shape, -1, np.int32), np.zeros(shape, np.float32))

    @property
    def todo(self) -> np.ndarray:
        """Places in the list of the videos without a prediction, int64, ascending."""
        return np.flatnonzero(self.best[:, 0] < 0)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.videos.class_names or ()

    @property
    def labels(self) -> np.ndarray | None:
        """int64 [N]; None if the videos have none."""
        return None if self.videos.labels is None else np.asarray(self.videos.labels, np.int64)

    def fill(self, places: Sequence[int] | np.ndarray, best: np.ndarray, probabilities: np.ndarray) -> None:
        """Sets the predictions for the videos at these places of the list."""
        self.best[places] = best
        self.probabilities[places] = probabilities


class PredictionFile:
    """The predictions of a list as a CSV file that grows by whole rows; only process 0 makes one.

    Columns: video (its place in the list, from 0), path, label, prediction, probability, top5 (classes, the most
    probable first, between spaces), top5_probabilities, label_name, prediction_name. Without labels, label and
    label_name are empty. Bytes of names that are not UTF-8 are written as they are.

    Args:
      path: the file; created, with its folder, if absent.
      predictions: filled with what the file already holds. A truncated row is dropped from the file.

    Raises:
      FileError: the file cannot be read or written, or has rows of other videos.
    """

    def __init__(self, path: Path, predictions: Predictions) -> None:
        self._path, self._predictions = path, predictions
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._read()
        except OSError as error:
            raise self._unwritable(error) from error
        self.write_sorted()

    def append(self, places: Iterable[int]) -> None:
        """Adds the rows of these videos; they are on disk when this returns."""
        try:
            with self._path.open("a", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write(self._rows(places))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def write_sorted(self) -> None:
        """Rewrites the file with all predictions, in the order of the list."""
        head = io.StringIO()
        csv.writer(head).writerow(COLUMNS)
        known = np.flatnonzero(self._predictions.best[:, 0] >= 0)
        write_text(self._path, head.getvalue() + self._rows(known))

    def _rows(self, places: Iterable[int]) -> str:
        text = io.StringIO()
        writer = csv.writer(text)
        of = self._predictions
        for place in places:
            best = of.best[place].tolist()
            probabilities = [
                f"{probability:.9g}" for probability in of.probabilities[place]
            ]  # as many digits as float32 has
            label = None if of.videos.labels is None else of.videos.labels[place]
            writer.writerow([
                place, of.videos.paths[place], label, best[0], probabilities[0], " ".join(map(str, best)),
                " ".join(probabilities), None if label is None else of.classes[label], of.classes[best[0]],
            ])  # fmt: skip
        return text.getvalue()

    def _read(self) -> None:
        videos, best_kept = self._predictions.videos, self._predictions.best.shape[1]
        labels = videos.labels or (None,) * len(videos)
        text = self._path.read_bytes().decode("utf-8", errors="surrogateescape")
        # A truncated row has no line end; one that was truncated inside quotes does not parse.
        lines = io.StringIO(text[: text.rfind("\n") + 1], newline="")
        rows = csv.reader(lines, strict=True)
        try:
            if next(rows, list(COLUMNS)) != list(COLUMNS):
                raise FileError(self._path, f"has other columns than {','.join(COLUMNS)}; move it away")
            for row in rows:
                if len(row) != len(COLUMNS):
                    break
                place, path, label = int(row[0]), row[1], int(row[2]) if row[2] else None
                if not 0 <= place < len(videos) or (videos.paths[place], labels[place]) != (path, label):
                    raise FileError(self._path, f"line {rows.line_num}: {path} is not this list's video there")
                best, probabilities = row[5].split(), row[6].split()
                if not len(best) == len(probabilities) == best_kept:
                    raise ValueError(f"{len(best)} classes, expected {best_kept}")
                self._predictions.fill([place], np.array(best, np.int32), np.array(probabilities, np.float32))
        except csv.Error:
            pass
        except ValueError as error:
            reason = f"line {rows.line_num}: was not written by an evaluation ({error}); move the file away"
            raise FileError(self._path, reason) from error

    def _unwritable(self, error: OSError) -> FileError:
        reason = f"cannot be written ({error.strerror or error}): give an --out that you can write to"
        return FileError(self._path, reason)
