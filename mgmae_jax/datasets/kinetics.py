"""Kinetics-400, -600 and -700: their CSV files, and videos named by YouTube's id and the seconds of the clip."""

from __future__ import annotations

import collections
import csv
import io
from pathlib import Path

from mgmae_jax.datasets.listed import (
    ListedSplit,
    Official,
    find_file,
    find_folder,
    read_text,
    split_from,
    videos_below,
)
from mgmae_jax.errors import FileError

_FILES = {"train": ("train",), "validation": ("val", "validate", "validation"), "test": ("test",)}
_COLUMNS = ("youtube_id", "time_start", "time_end")


def read(root: Path, variant: str, split: str) -> ListedSplit:
    """Lists a split. Videos that have vanished from YouTube are among the missing.

    Args:
      root: the folder of the downloaded files; see `OFFICIAL`.
      variant: "400", "600" or "700"; the files say themselves which they are.
      split: "train", "validation" or "test", which has labels only if its file does.

    Raises:
      FileError: a file is missing or damaged.
    """
    del variant
    annotations = find_folder(root, ("annotations", "."), "annotations")
    entries, listing = _rows(annotations, split)
    # Not every split has a video of each class, but the training videos do.
    classes = tuple(sorted({label for _, label in _rows(annotations, "train")[0] if label is not None}))
    videos = find_folder(root, (*_FILES[split], "."), "videos")
    where: dict[str, str] = {}
    for path in videos_below(videos):
        where.setdefault(path.rpartition("/")[2].rpartition(".")[0], path)
    # Some downloads name a file by YouTube's id alone; of several clips of one video, that says nothing.
    clips = collections.Counter(_youtube_id(name) for name in dict(entries))
    for name, _ in entries:
        alone = where.get(_youtube_id(name)) if clips[_youtube_id(name)] == 1 else None
        if alone is not None:
            where.setdefault(name, alone)
    return split_from(videos, listing, entries, classes, where)


def _youtube_id(name: str) -> str:
    """-3B32lodo2M of -3B32lodo2M_000059_000069."""
    return name.rsplit("_", 2)[0]


def _rows(folder: Path, split: str) -> tuple[list[tuple[str, str | None]], Path]:
    """Name and class, or None, of each video that a split's file lists."""
    path = find_file(folder, [f"{name}.csv" for name in _FILES[split]], f"list of the {split} split")
    rows = csv.reader(io.StringIO(read_text(path)))
    header = [cell.strip() for cell in next(rows, [])]
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise FileError(path, f"is not a list of Kinetics: its first line names no {', '.join(missing)}")
    places = [header.index(name) for name in _COLUMNS]
    label_place = header.index("label") if "label" in header else None
    entries: list[tuple[str, str | None]] = []
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(*places, label_place or 0):
                raise ValueError(f"it has {len(row)} columns of {len(header)}")
            name, start, end = (row[place].strip() for place in places)
            label = None if label_place is None else row[label_place].strip() or None
            entries.append((f"{name}_{int(float(start)):06d}_{int(float(end)):06d}", label))
    except (ValueError, OverflowError, csv.Error) as error:
        raise FileError(path, f"line {rows.line_num} is damaged ({error})") from error
    return entries, path


OFFICIAL = Official(
    read=read,
    variants=("400", "600", "700"),
    splits=("train", "validation", "test"),
    # Of the copies that CVDF distributes, as the documentation of FiftyOne counts them; for 700, the edition of 2020.
    sizes={
        "400": {"train": 246_534, "validation": 19_906, "test": 39_805},
        "600": {"train": 427_549, "validation": 29_793, "test": 72_924},
        "700": {"train": 534_073, "validation": 33_914, "test": 64_260},
    },
    classes={"400": 400, "600": 600, "700": 700},
    instructions=(
        "The folder holds annotations/ (train.csv, val.csv, test.csv, with the columns label, youtube_id, time_start, "
        "time_end) and train/, val/ and test/ with the videos (-3B32lodo2M_000059_000069.mp4), in folders by class or "
        "not. Missing videos are left out and listed."
    ),
    homepage="https://github.com/cvdfoundation/kinetics-dataset",
    citation=(
        "@article{kay2017kinetics,\n  title={The Kinetics human action video dataset},\n  author={Kay, Will and "
        "others},\n  journal={arXiv:1705.06950},\n  year={2017}\n}"
    ),
)
