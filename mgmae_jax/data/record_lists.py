"""The videos of a split of records: `tfds:NAME`, or a folder that `mgmae prepare` or `tfds build` wrote.

What is in the records is listed beside them, in SPLIT.index.jsonl, so that no record is read to list them: a line
`{"path": "jump/a.mp4", "label": "jump", "frames": 120, ...}` for each record of the split, in their order.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mgmae_jax.data.records import FEATURES, Records
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.runtime.files import read_object

PREFIX = "tfds:"
"""What a name of records begins with, where a path is expected."""
INFO = "dataset_info.json"
"""The file by which a folder of records is known; it is written last."""
PLAN = "prepare.json"
"""What `mgmae prepare` writes into a folder of records first."""
_INDEX = ".index.jsonl"
_AGAIN = "copy the records again, or prepare the videos again"
_MAX_LINE_BYTES = 64 * 1024
_DEFAULTS = {"data.path": ("train",), "eval.path": ("validation", "test")}
"""The splits that are looked for where none is named."""


class Split(NamedTuple):
    """The records of a split.

    Attributes:
      names: of the videos, in the order of the records.
      labels: index into `classes` for each; -1 without one.
      classes: names of the classes; none if no video of the data set has one.
      records: opens them.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    records: Records


def index_path(folder: str | os.PathLike[str], split: str) -> Path:
    """The list of what the records of a split hold."""
    return Path(folder) / f"{split}{_INDEX}"


def names_records(path: str) -> bool:
    """Whether a path or name is one of records: `tfds:NAME`, or a folder of records with or without @SPLIT."""
    if path.startswith(PREFIX):
        return True
    return any(os.path.isfile(os.path.join(folder, INFO)) for folder in {path, path.rpartition("@")[0] or path})


def check_finished(path: str) -> None:
    """Checks that a folder without `INFO` is not one of records all the same.

    Args:
      path: the folder, with or without @SPLIT.

    Raises:
      FileError: `mgmae prepare` has begun it, and not come to its end.
    """
    for folder in {path, path.rpartition("@")[0] or path}:
        try:
            inside = os.listdir(folder)
        except (OSError, ValueError):
            continue
        if INFO not in inside and any(name == PLAN or name.endswith(_INDEX) for name in inside):
            want = "give `mgmae prepare` the same command again"
            raise FileError(folder, f"holds records that are not finished: {want}")


def read_split(path: str, field: str = "data.path") -> Split:
    """Lists a split of records.

    Args:
      path: `tfds:NAME@SPLIT`, where NAME is what TFDS calls it (`ucf101_videos/split1`, with a version if wanted:
        `ucf101_videos/split1:1.0.0`), looked for in $TFDS_DATA_DIR or ~/tensorflow_datasets, or a folder; or FOLDER or
        FOLDER@SPLIT. SPLIT may be a part, train[:10%], or parts of one split, train[:10%]+train[90%:]. Without it:
        train for data.path, and validation or test for eval.path.
      field: what gave the path; see `sources.read_source`.

    Raises:
      MgmaeError: there are no such records or no such split; a ConfigError if a config field gave it.
      FileError: they are not videos, are not finished, or a file beside them is missing or damaged.
    """
    import tensorflow_datasets as tfds  # not in the processes of workers

    builder, split = _find(tfds, path, field)
    folder = os.fspath(builder.data_dir)
    known = builder.info.features
    missing = [name for name in FEATURES if name not in (known or ())]
    if missing:
        want = "build it by `mgmae prepare` or by one of this package's builders"
        raise FileError(folder, f"its records have no {', '.join(missing)}: {want}")
    info, base = _splits(builder, path, split, field)
    whole = builder.info.splits[base]
    shards = tuple(os.fspath(one.filename) for one in whole.file_instructions)
    lengths = tuple(int(one.examples_in_shard) for one in whole.file_instructions)
    starts = dict(zip(shards, itertools.accumulate(lengths, initial=0), strict=False))
    chosen = [starts[os.fspath(one.filename)] + one.skip + i for one in info.file_instructions for i in range(one.take)]
    rows = list(_index(index_path(folder, base)))
    if len(rows) != sum(lengths):
        raise FileError(
            index_path(folder, base),
            f"lists {len(rows)} videos, and its records are {sum(lengths)}: prepare them again",
        )
    if not chosen:
        raise FileError(folder, f"its split {split!r} holds no video")
    classes = tuple(known["label"].names) if known["label"].num_classes else ()
    numbers = {name: number for number, name in enumerate(classes)}
    places = {rows[number][0]: number for number in chosen}
    try:
        labels = tuple(-1 if rows[i][1] is None else numbers[rows[i][1]] for i in chosen)
    except KeyError as error:
        raise FileError(index_path(folder, base), f"has a label that is none of its classes: {error}") from error
    return Split(tuple(rows[i][0] for i in chosen), labels, classes, Records(shards, lengths, places))


def _find(tfds: Any, path: str, field: str) -> tuple[Any, str]:
    """The builder that reads a data set's files, and the split."""
    text = path.removeprefix(PREFIX)
    whole = os.path.expanduser(text)
    name, split = (whole, "") if os.path.exists(whole) else _parted(whole)
    here = os.path.isdir(name)
    try:
        if here:
            builder = tfds.builder_from_directory(name)
        else:
            builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir())
    except Exception as error:  # of a damaged file, TFDS passes on whatever reading it raises
        check_finished(name)
        if name:
            _check_files(Path(name) if here else Path(data_dir(), name.partition(":")[0]), deep=not here)
        reason = str(error).strip().partition("\n")[0][:200]
        if not isinstance(error, tfds.core.registered.DatasetNotFoundError | FileNotFoundError | ValueError):
            raise FileError(name, f"cannot be read as records ({type(error).__name__}: {reason}); {_AGAIN}") from error
        want = (
            f"a folder of records, or the name of a data set in {data_dir()} ($TFDS_DATA_DIR), NAME/CONFIG@SPLIT "
            f"({reason})"
        )
        raise _refused(field, path, want) from error
    return builder, split or _default(builder, field)


def _check_files(root: Path, *, deep: bool) -> None:
    """Checks the files by which TFDS reads the records in a folder.

    Args:
      root: the folder.
      deep: whether it is that of a data set, with folders for its configs and versions.

    Raises:
      FileError: one is missing or damaged.
    """
    for info in (info for pattern in (("*/*/", "*/") if deep else ("",)) for info in sorted(root.glob(pattern + INFO))):
        for path in (info, info.with_name("features.json")):
            read_object(path, remedy=f": {_AGAIN}")


def _parted(text: str) -> tuple[str, str]:
    name, _, split = text.rpartition("@")
    return (name, split) if name else (text, "")


def data_dir() -> str:
    """The folder that TFDS keeps data sets in."""
    return os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")


def _default(builder: Any, field: str) -> str:
    names = list(builder.info.splits)
    wanted = _DEFAULTS.get(field, ("train",))
    return next((name for name in wanted if name in names), names[0] if len(names) == 1 else wanted[0])


def _splits(builder: Any, path: str, split: str, field: str) -> tuple[Any, str]:
    """What TFDS says of a split or its parts, and the name of the whole split."""
    names = list(builder.info.splits)
    bases = {part.partition("[")[0].strip() for part in split.split("+")}
    try:
        if not bases <= set(names):  # also @all, TFDS's name for all of them together
            raise KeyError(split)
        info = builder.info.splits[split]
    except (KeyError, ValueError) as error:
        there = ", ".join(f"@{name}" for name in names)
        raise _refused(field, path, f"one of its splits at the end, {there}, and not @{split}") from error
    if len(bases) > 1:  # the same name may stand in both
        raise _refused(field, path, f"one split, or parts of one, such as @{names[0]}[:10%], and not @{split}")
    return info, bases.pop()


def _index(path: Path) -> Iterator[tuple[str, str | None]]:
    """The name and the label of each record."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE_BYTES + 1):
                number += 1
                try:
                    row = json.loads(line)
                    name, label = row["path"], row["label"]
                except (ValueError, TypeError, KeyError) as error:
                    raise FileError(path, f"line {number} is damaged ({error}): prepare the videos again") from error
                if not isinstance(name, str) or not isinstance(label, str | None):
                    raise FileError(path, f"line {number} is damaged: prepare the videos again")
                yield name, label
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror}): prepare the videos again") from error


def _refused(field: str, value: str, want: str) -> MgmaeError:
    return ConfigError(field, value, want) if "." in field else MgmaeError(f"{field}: {value!r}: give {want}.")
