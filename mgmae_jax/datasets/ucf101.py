"""UCF101: a folder of AVI files for each class, and three ways to split them into training and test videos."""

from __future__ import annotations

import re
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

_NUMBER = re.compile(r"\s+[0-9]+$")  # of the class, after a video


def read(root: Path, variant: str, split: str) -> ListedSplit:
    """Lists a split.

    Args:
      root: the folder of the downloaded files; see `OFFICIAL`.
      variant: "split1", "split2" or "split3".
      split: "train" or "test".

    Raises:
      FileError: a file is missing or damaged.
    """
    lists = find_folder(root, ("ucfTrainTestlist", "."), "lists")
    classes_file = find_file(lists, ("classInd.txt",), "list of classes")
    rows = [line.split() for line in read_text(classes_file).splitlines() if line.strip()]
    if not rows or not all(len(row) == 2 and row[0].isdecimal() for row in rows):
        raise FileError(classes_file, "is not a list of lines such as `1 ApplyEyeMakeup`")
    classes = tuple(name for _, name in sorted(rows, key=lambda row: int(row[0])))
    if any(len({row[place] for row in rows}) < len(rows) for place in (0, 1)):
        raise FileError(classes_file, "lists a number or a class twice")
    path = find_file(lists, (f"{split}list0{variant[-1]}.txt",), f"list of the {split} videos of {variant}")
    # Lines are `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`, in the test lists without the number.
    names = [_NUMBER.sub("", line.strip()) for line in read_text(path).splitlines() if line.strip()]
    if not all(name.count("/") == 1 for name in names):
        raise FileError(path, "is not a list of lines such as `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`")
    videos = find_folder(root, ("UCF-101", "UCF101", "videos", "."), "videos")
    where = {name.rpartition(".")[0]: name for name in videos_below(videos)}
    entries = [(name.rpartition(".")[0], name.partition("/")[0]) for name in names]
    return split_from(videos, path, entries, classes, where)


_SIZES = {"split1": (9537, 3783), "split2": (9586, 3734), "split3": (9624, 3696)}
OFFICIAL = Official(
    read=read,
    variants=tuple(_SIZES),
    splits=("train", "test"),
    sizes={name: dict(zip(("train", "test"), sizes, strict=True)) for name, sizes in _SIZES.items()},
    classes=dict.fromkeys(_SIZES, 101),
    instructions=(
        "The folder holds UCF-101/ (ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi, ...) and ucfTrainTestlist/ "
        "(classInd.txt, trainlist01.txt, testlist01.txt, ...), as UCF101.rar and "
        "UCF101TrainTestSplits-RecognitionTask.zip unpack."
    ),
    homepage="https://www.crcv.ucf.edu/research/data-sets/ucf101/",
    citation=(
        "@article{soomro2012ucf101,\n  title={UCF101: A dataset of 101 human actions classes from videos in the wild},"
        "\n  author={Soomro, Khurram and Zamir, Amir Roshan and Shah, Mubarak},\n  journal={arXiv:1212.0402},\n"
        "  year={2012}\n}"
    ),
)
