"""Records from videos: plans the shards, has them written in any order, and adds what TFDS reads beside them.

A folder of records, while it is being written:

- .lock: held by the process that writes.
- prepare.json: what it is made from; another source or encoding needs another folder.
- NAME-SPLIT.array_record-00003-of-00016: a shard, whole or absent.
- .parts/SPLIT-00003.jsonl: what the shard holds; written after it, so that it says that the shard is whole.

At the end the parts become SPLIT.index.jsonl and left_out.jsonl, and dataset_info.json says that all is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgmae_jax.data.encode import Encoding
from mgmae_jax.data.pool import mapper
from mgmae_jax.data.record_lists import INFO, PLAN, index_path
from mgmae_jax.data.record_writer import Row, ShardTask, write_shard
from mgmae_jax.data.timeline_cache import DECODER
from mgmae_jax.datasets.listed import ListedSplit
from mgmae_jax.datasets.record_info import INFO_PREFIX, shard_name, write_info
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.files import read_object, write_json, write_text
from mgmae_jax.runtime.session import LOCK, locked

Run = Callable[[Callable[[ShardTask], int], list[ShardTask]], Iterable[int]]
"""Calls a function with every task, in any process and order; gives the results one after another."""
LEFT_OUT = "left_out.jsonl"
"""The list of the videos that are not in the records, with the reasons."""
_PARTS = ".parts"
_MOST_ROWS, _SHARDS = 256, 16  # of a shard; and of a small data set
_ALL_SPLITS = "all"
_FORMAT = 1  # raised when the same plan would give other records


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What came of it.

    Attributes:
      records: how many, by split.
      left_out: videos that are not in the records: those that are missing, and those that cannot be read.
    """

    records: Mapping[str, int]
    left_out: int


def prepare(
    splits: Mapping[str, ListedSplit],
    out: Path,
    name: str,
    encoding: Encoding | None,
    run: Run,
    on_progress: Callable[[int, int], None],
) -> Prepared:
    """Writes records of all splits of a data set, or completes what an interrupted call has left.

    Args:
      splits: the videos, by the name of their split.
      out: the folder of the records, made if absent.
      name: of the data set, as a part of a file's name.
      encoding: how videos are encoded again; None keeps their bytes.
      run: has the shards written; see `in_processes` and `on_beam`.
      on_progress: called with (videos done, videos in total).

    Raises:
      FileError: the folder holds other records or cannot be written, or no video of a split can be read.
      InUseError: another process prepares into the folder.
      MgmaeError: a name cannot be used, or the classes of the splits differ.
    """
    for text, what in ((name, "--name"), *((split, "a split's name") for split in splits)):
        if not re.fullmatch("[a-z][a-z0-9_]*", text):
            raise MgmaeError(f"{text!r}: give {what} of small letters, digits and _, such as my_videos.")
    if _ALL_SPLITS in splits:
        raise MgmaeError(f"{_ALL_SPLITS!r}: give a split another name: TFDS calls all splits together so.")
    classes = common_classes(splits)
    tasks = {split: _tasks(out, name, split, listed, classes, encoding) for split, listed in splits.items()}
    plan = _plan(name, splits, encoding)
    _check_plan(out, plan)  # before anything is written into a folder of something else
    with locked(out, "--out"):
        if not _check_plan(out, plan):
            write_json(out / PLAN, plan)
        _complete(out, name, tasks, splits, classes, run, on_progress)
        (out / LOCK).unlink(missing_ok=True)  # what is left is a function of the videos
    counts = {split: _lines(index_path(out, split)) for split in splits}
    return Prepared(counts, _lines(out / LEFT_OUT) if (out / LEFT_OUT).exists() else 0)


def _complete(
    out: Path,
    name: str,
    tasks: Mapping[str, list[ShardTask]],
    splits: Mapping[str, ListedSplit],
    classes: tuple[str, ...],
    run: Run,
    on_progress: Callable[[int, int], None],
) -> None:
    """Writes what is not there yet."""
    every = [task for tasks_of in tasks.values() for task in tasks_of]
    complete = (out / INFO).exists()
    absent = [task for task in every if not Path(task.path).exists()]
    for task in absent:
        Path(task.listing).unlink(missing_ok=True)  # the shard was deleted since
    wanted = absent if complete else every
    if wanted:
        done, total = 0, sum(len(task.rows) for task in wanted)
        on_progress(0, total)
        for rows in run(write_shard, wanted):
            done += rows
            on_progress(done, total)
    if complete:
        _check_same(out, absent)
    else:
        _finish(out, name, tasks, splits, classes)
    _clean(out)


def in_processes(processes: int) -> Run:
    """Writes shards in processes of this machine.

    Args:
      processes: how many; with 1, in this one.
    """

    def run(write: Callable[[ShardTask], int], tasks: list[ShardTask]) -> Iterable[int]:
        with mapper(min(processes, len(tasks)), "preparing videos", _named) as apply:
            yield from apply(write, tasks)

    return run


def _named(task: ShardTask) -> list[str]:
    return [row.name for row in task.rows]


def on_beam(runner: str, options: list[str]) -> Run:
    """Writes shards as an Apache Beam pipeline, which needs the package apache-beam.

    The machines of the runner must reach the videos and the folder of the records by the same paths as this one.

    Args:
      runner: DirectRunner, DataflowRunner, FlinkRunner or SparkRunner, for example.
      options: the runner's own: --project=NAME, for example.

    Raises:
      MgmaeError: apache-beam is not installed, or rejects the runner or its options.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise MgmaeError(
            f"--runner {runner}: needs apache-beam ({error}): pip install 'mgmae-jax[beam]', or leave out --runner."
        ) from error

    try:
        made = beam.Pipeline(options=PipelineOptions([f"--runner={runner}", *options]))
    except ValueError as error:
        raise MgmaeError(f"--runner {runner}, or --beam-options: {error}") from error

    def run(write: Callable[[ShardTask], int], tasks: list[ShardTask]) -> Iterable[int]:
        with made as pipeline:
            # Without the reshuffle, a runner writes all shards one after another.
            _ = pipeline | beam.Create(tasks) | beam.Reshuffle() | beam.Map(write)
        yield sum(len(task.rows) for task in tasks)

    return run


def common_classes(splits: Mapping[str, ListedSplit]) -> tuple[str, ...]:
    """Names of the classes of all splits: those of the first split that has labels.

    Raises:
      MgmaeError: another one has a class that is not among them.
    """
    labelled = [(split, listed) for split, listed in splits.items() if listed.classes]
    if not labelled:
        return ()
    first, listed = labelled[0]
    classes = listed.classes
    for split, other in labelled[1:]:
        unknown = [name for name in other.classes if name not in set(classes)]
        if unknown:
            raise MgmaeError(
                f"{split}: has the class {unknown[0]!r}, which {first} has not: give both the same classes, or prepare "
                "them into two folders."
            )
    return classes


def rows_of(listed: ListedSplit, classes: tuple[str, ...]) -> list[Row]:
    """The videos of a split, with labels that are indices into `classes`."""
    numbers = {name: number for number, name in enumerate(classes)}
    rows = []
    for i, name in enumerate(listed.names):
        label = None if listed.videos.labels is None else listed.videos.labels[i]
        class_name = None if label is None or label < 0 else listed.classes[label]
        rows.append(Row(listed.videos.alone(i), name, -1 if class_name is None else numbers[class_name], class_name))
    return rows


def _tasks(
    out: Path, name: str, split: str, listed: ListedSplit, classes: tuple[str, ...], encoding: Encoding | None
) -> list[ShardTask]:
    rows = rows_of(listed, classes)
    each = min(_MOST_ROWS, -(-len(rows) // _SHARDS))
    parts = [tuple(rows[start : start + each]) for start in range(0, len(rows), each)]
    return [
        ShardTask(
            str(out / shard_name(name, split, number, len(parts))),
            str(out / _PARTS / f"{split}-{number:05d}.jsonl"),
            part,
            encoding,
        )
        for number, part in enumerate(parts)
    ]


def _plan(name: str, splits: Mapping[str, ListedSplit], encoding: Encoding | None) -> dict[str, Any]:
    """What the records are made from."""
    return {
        "format": _FORMAT,
        "name": name,
        "encoding": None if encoding is None else dataclasses.asdict(encoding),
        "decoder": DECODER,
        "splits": {split: {"videos": len(listed.names), "hash": _hash(listed)} for split, listed in splits.items()},
    }


def _check_plan(out: Path, plan: Mapping[str, Any]) -> bool:
    """Returns whether the folder is one of these records already, and not a new one.

    Raises:
      FileError: it is one of something else.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise FileError(out, "is a file: give a folder as --out")
    inside = {path.name for path in out.iterdir()}
    if PLAN not in inside and not all(name.startswith(".") for name in inside):
        raise FileError(out, "is not empty, and holds no records that this command has begun: give another --out")
    if PLAN not in inside:
        return False
    there = read_object(out / PLAN, remedy=": give another --out")
    if there != plan:
        differing = ", ".join(key for key in plan if there.get(key) != plan[key])
        raise FileError(out, f"holds records of something else ({differing} differ): give another --out, or delete it")
    return True


def _hash(listed: ListedSplit) -> str:
    labels = listed.videos.labels or ("",) * len(listed.names)
    text = "\n".join(f"{name}\t{label}" for name, label in zip(listed.names, labels, strict=True))
    return hashlib.sha256("\n\n".join([text, *listed.classes]).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _finish(
    out: Path,
    name: str,
    tasks: Mapping[str, list[ShardTask]],
    splits: Mapping[str, ListedSplit],
    classes: tuple[str, ...],
) -> None:
    """Writes what is listed beside the shards, after all of them."""
    left_out: list[dict[str, str]] = []
    shards: dict[str, list[tuple[int, int]]] = {}
    for split, tasks_of in tasks.items():
        index, sizes = [], []
        for task in tasks_of:
            rows = _read_rows(Path(task.listing))
            kept = [row for row in rows if "left_out" not in row]
            left_out += [
                {"split": split, "path": row["path"], "reason": row["left_out"]} for row in rows if "left_out" in row
            ]
            index += kept
            sizes.append((len(kept), os.path.getsize(task.path)))
        left_out += [{"split": split, "path": path, "reason": "no such file"} for path in splits[split].missing]
        if not index:
            for task in tasks_of:  # so that the same command reads the videos anew
                Path(task.listing).unlink(missing_ok=True)
                Path(task.path).unlink(missing_ok=True)
            reasons = [f"{row['path']}: {row['reason']}" for row in left_out if row["split"] == split]
            first = f"the first, {reasons[0]}" if reasons else "there is none"
            want = "repair them, and give the same command again"
            raise FileError(out, f"none of the videos of {split} can be read ({first}): {want}")
        write_text(index_path(out, split), "".join(f"{json.dumps(row)}\n" for row in index))
        shards[split] = sizes
    if left_out:
        write_text(out / LEFT_OUT, "".join(f"{json.dumps(row)}\n" for row in left_out))
    counted = ", ".join(f"{sum(records for records, _ in sizes)} {split}" for split, sizes in shards.items())
    write_info(out, name, classes, shards, f"Videos as they are read by mgmae-jax: {counted}.")


def _check_same(out: Path, tasks: Sequence[ShardTask]) -> None:
    """Checks that shards that were written once more hold what the index says of those that were deleted.

    Raises:
      FileError: a video has changed since.
    """
    indices: dict[str, dict[str, Any]] = {}
    for task in tasks:
        split = Path(task.listing).name.rpartition("-")[0]
        if split not in indices:
            indices[split] = {row["path"]: row for row in _read_rows(index_path(out, split))}
        for row in _read_rows(Path(task.listing)):
            if indices[split].get(row["path"]) != (None if "left_out" in row else row):
                Path(task.path).unlink()
                want = "delete the folder, or give another --out"
                raise FileError(task.path, f"cannot be written again: {row['path']} has changed since; {want}")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _clean(out: Path) -> None:
    """Removes what only an unfinished folder needs, and what killed processes have left."""
    shutil.rmtree(out / _PARTS, ignore_errors=True)
    for left in (*out.glob(".*.partial"), *out.glob(f"{INFO_PREFIX}*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
