"""HMDB51: a folder of AVI files for each class, and three ways to split them into training and test videos."""

from __future__ import annotations

import os
from pathlib import Path

from mgmae_jax.datasets.listed import ListedSplit, Official, find_folder, read_text, split_from, videos_below
from mgmae_jax.errors import FileError

_MARKS = {"train": "1", "test": "2"}  # 0 marks videos that belong to neither


def read(root: Path, variant: str, split: str) -> ListedSplit:
    """Lists a split.

    Args:
      root: the folder of the downloaded files; see `OFFICIAL`.
      variant: "split1", "split2" or "split3".
      split: "train" or "test".

    Raises:
      FileError: a file is missing or damaged.
    """
    lists = find_folder(root, ("testTrainMulti_7030_splits", "splits", "."), "lists")
    ending = f"_test_{variant}.txt"
    files = sorted(name for name in os.listdir(lists) if name.endswith(ending))
    if not files:
        raise FileError(lists, f"has no lists of the classes for {variant}: brush_hair{ending}, ...")
    classes = tuple(name.removesuffix(ending) for name in files)
    entries = []
    for name, label in zip(files, classes, strict=True):
        marks: dict[str, str] = {}
        for number, line in enumerate(read_text(lists / name).splitlines(), 1):
            video, *mark = line.rsplit(maxsplit=1) or ("",)
            if not video:
                continue
            if len(mark) != 1 or mark[0] not in ("0", "1", "2"):
                raise FileError(lists / name, f"line {number}: is not `VIDEO.avi 0`, 1 or 2 ({line[:80]!r})")
            if marks.setdefault(video, mark[0]) != mark[0]:
                raise FileError(lists / name, f"line {number}: {video} has another number on a line before")
        entries += [
            (f"{label}/{video.rpartition('.')[0]}", label) for video, mark in marks.items() if mark == _MARKS[split]
        ]
    videos = find_folder(root, ("hmdb51_org", "hmdb51", "videos", "."), "videos")
    where = {name.rpartition(".")[0]: name for name in videos_below(videos)}
    return split_from(videos, lists, entries, classes, where)


_VARIANTS = ("split1", "split2", "split3")
OFFICIAL = Official(
    read=read,
    variants=_VARIANTS,
    splits=("train", "test"),
    sizes={name: {"train": 3570, "test": 1530} for name in _VARIANTS},
    classes=dict.fromkeys(_VARIANTS, 51),
    instructions=(
        "The folder holds hmdb51_org/ (brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi, ...) and "
        "testTrainMulti_7030_splits/ (brush_hair_test_split1.txt, ...), as hmdb51_org.rar, the archives in it and "
        "test_train_splits.rar unpack."
    ),
    homepage="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
    citation=(
        "@inproceedings{kuehne2011hmdb,\n  title={HMDB: A large video database for human motion recognition},\n"
        "  author={Kuehne, Hildegard and others},\n  booktitle={ICCV},\n  year={2011}\n}"
    ),
)
