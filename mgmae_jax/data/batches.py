"""Batches of training examples from videos, in an order that is a pure function of the seed; read by Grain.

The example at position p is a pure function of (seed, p), so a run resumes at a step without any state of an iterator,
on any number of processes and workers.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import grain
import numpy as np
from absl import logging

from mgmae_jax.data.decode import Readable
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.workers import WorkerBatches, with_workers
from mgmae_jax.errors import ConfigError, FileError, MgmaeError, VideoError
from mgmae_jax.runtime.files import write_text
from mgmae_jax.runtime.share import Share

Read = Callable[[Readable, int | None, int], dict[str, np.ndarray]]
"""Makes the example of a video: (video, label or None, position) -> arrays [views, ...]. Raises VideoError if it cannot
be read. Travels to the workers, so it can be pickled."""

MAX_TRIES = 16  # Positions tried for one example before giving up on the data set.
# What a worker reports about the bad videos that it met. Text has a fixed size, so that examples stack.
_BAD = np.dtype([("video", np.int64), ("reason", "S240")])
# A stream's id is its place here, so names are only ever appended: moving one would change every run.
_STREAMS = ("order", "time", "crop", "augment")


@dataclasses.dataclass(frozen=True)
class BatchSpec:
    """How the batches of a run are composed, and which share of them belongs to this process.

    Args:
      batch_size: videos per step, over all processes.
      views: crops of each video's clip, so that a step has batch_size * views clips.
      seed: the seed of the order and of everything that is drawn, from 0 to 2**32 - 1.
      workers: processes that read; 0 reads in threads of this one. It does not affect the batches.
      share: which examples of each batch this process reads.
    """

    batch_size: int
    views: int
    seed: int
    workers: int
    share: Share = dataclasses.field(default_factory=Share)


def random_stream(seed: int, name: str, *key: int) -> np.random.Generator:
    """The random generator for one purpose.

    Args:
      seed: the run's seed.
      name: "order", "time", "crop" or "augment".
      key: numbers that distinguish draws under the same name, such as position and view.
    """
    return np.random.default_rng(_seed_sequence(seed, name, *key))


def _seed_sequence(seed: int, name: str, *key: int) -> np.random.SeedSequence:
    # As a spawn key, because default_rng([seed, n]) and default_rng([seed, n, 0]) are one and the same.
    return np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(name), *key))


def train_batches(
    videos: VideoList,
    read: Read,
    spec: BatchSpec,
    *,
    start_step: int,
    on_bad: Callable[[str, str], None],
) -> TrainBatches:
    """Reads this process's batches from `start_step` on, endlessly.

    Position `step * batch_size + i` holds a video of an endless sequence of shuffled epochs. A process reads the
    positions of its share, so that the global batch is the same on any machine. A bad video's place is taken by the
    next position that can be read.

    Args:
      videos: at least one.
      read: makes an example.
      spec: how the batches are composed.
      start_step: the step of the first batch.
      on_bad: called with path and reason when a bad video is first met. An exception that it raises ends the iteration.

    Returns:
      An iterator over dicts of what `read` gives, joined along the leading axis: video by video and view by view.
      Close it, or use it as a context manager. Iterating raises MgmaeError if 16 positions in a row hold bad videos.

    Raises:
      ConfigError: the batch cannot be divided over the devices, or another number is out of range.
    """
    if not 0 <= spec.seed < 2**32:
        raise ConfigError("seed", spec.seed, "a whole number from 0 to 2**32 - 1")
    places = tuple(spec.share.examples(spec.batch_size, spec.views).tolist())
    local = len(places)
    examples = _Examples(videos, read, spec.seed, spec.batch_size, places)
    dataset = with_workers(grain.MapDataset.range(start_step * local, sys.maxsize).map(examples), spec.workers)
    return TrainBatches(dataset.batch(local, drop_remainder=True, batch_fn=_joined), videos, on_bad)


class TrainBatches(WorkerBatches):
    """Batches of training examples; made by `train_batches`."""

    def __init__(self, dataset: grain.IterDataset, videos: VideoList, on_bad: Callable[[str, str], None]) -> None:
        super().__init__(dataset)
        self._videos, self._on_bad = videos, on_bad
        self._seen: set[int] = set()

    def __next__(self) -> dict[str, np.ndarray]:
        batch = super().__next__()
        for video, reason in batch.pop("bad"):
            if video >= 0 and video not in self._seen:
                self._seen.add(int(video))
                self._on_bad(self._videos.paths[video], reason.decode(errors="ignore"))
        return batch


@dataclasses.dataclass(frozen=True)
class _Examples:
    """Example number n of this process, for Grain's `map`; travels to the workers."""

    videos: VideoList
    read: Read
    seed: int
    batch_size: int
    places: tuple[int, ...]

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        """Reads the example at this number's position, or at the next one whose video can be read."""
        step, i = divmod(number, len(self.places))
        first = step * self.batch_size + self.places[i]
        bad = np.zeros(MAX_TRIES, _BAD)
        bad["video"] = -1
        labels = self.videos.labels
        for attempt, position in enumerate(range(first, first + MAX_TRIES)):
            video = self._video_at(position)
            try:
                example = self.read(self.videos.item(video), None if labels is None else labels[video], position)
                return {**example, "bad": bad}
            except VideoError as error:
                bad[attempt] = video, error.reason.encode(errors="replace")[: _BAD["reason"].itemsize]
        names = dict.fromkeys(self.videos.paths[video] for video in bad["video"])
        raise MgmaeError(
            f"{MAX_TRIES} videos in a row cannot be read, from position {first} on (the last: "
            f"{bad['reason'][-1].decode(errors='ignore')}):\n" + "\n".join(f"  {name}" for name in names)
        )

    def _video_at(self, position: int) -> int:
        """Index of the video at a position of the endless sequence of shuffled epochs."""
        epoch, place = divmod(position, len(self.videos))
        (epoch_seed,) = _seed_sequence(self.seed, "order", epoch).generate_state(1)
        return grain.experimental.index_shuffle(place, max_index=len(self.videos) - 1, seed=int(epoch_seed), rounds=4)


def _joined(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([example[name] for example in examples]) for name in examples[0]}


class BadVideos:
    """The bad videos of a run; calling it with a path and a reason adds one.

    Args:
      path: a JSON-lines file with each bad video; those listed there before a restart count as seen. With None, no list
        is kept.
      total: number of videos in the data set.
      max_fraction: the share of bad videos that a run tolerates, from 0 to 1.

    Raises:
      FileError: the list cannot be read, or a line of it was not written by this class.
    """

    def __init__(self, path: Path | None, total: int, max_fraction: float) -> None:
        self._path, self._total, self._max_fraction = path, total, max_fraction
        self._reasons: dict[str, str] = {}
        if path is not None and path.exists():
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise FileError(path, f"cannot be read ({error}); remove it") from error
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    self._reasons[entry["path"]] = entry["reason"]
                except (ValueError, TypeError, KeyError) as error:
                    raise FileError(path, f'line {number}: is not {{"path": ..., "reason": ...}}; fix it') from error

    @property
    def count(self) -> int:
        """Number of bad videos, including those from earlier starts of the run."""
        return len(self._reasons)

    def __call__(self, path: str, reason: str) -> None:
        """Adds a bad video, unless it is already known.

        Args:
          path: the file.
          reason: what is wrong with it.

        Raises:
          MgmaeError: more than `max_fraction` of the videos are bad; it lists them.
          FileError: the list cannot be written.
        """
        if path not in self._reasons:
            self._reasons[path] = reason
            logging.warning("Bad video, another takes its place: %s: %s", path, reason)
            if self._path is not None:  # whole: half a line would keep the run from resuming
                known = [json.dumps({"path": path, "reason": reason}) for path, reason in self._reasons.items()]
                write_text(self._path, "".join(f"{line}\n" for line in known))
        if self.count > self._max_fraction * self._total:
            shown = [f"  {path}: {reason}" for path, reason in list(self._reasons.items())[:20]]
            where = f" (all of them: {self._path})" if self._path else ""
            raise MgmaeError(
                f"{self.count} of {self._total} videos cannot be read, more than "
                f"config.data.max_bad_fraction={self._max_fraction} tolerates{where}:\n" + "\n".join(shown)
            )
