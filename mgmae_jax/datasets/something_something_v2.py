"""Something-Something V2: its JSON files of labels and splits, and a webm video for each id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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

_OLD = "something-something-v2-"  # what the files' names begin with in the first release
_VIDEOS = ("20bn-something-something-v2", "videos", "something-something-v2")


def read(root: Path, variant: str, split: str) -> ListedSplit:
    """Lists a split.

    Args:
      root: the folder of the downloaded files; see `OFFICIAL`.
      variant: not used: there is one.
      split: "train", "validation", or "test", which has labels only with its file of answers.

    Raises:
      FileError: a file is missing or damaged.
    """
    del variant
    labels = find_folder(root, ("labels", "."), "labels")
    labels_file = find_file(labels, ("labels.json", f"{_OLD}labels.json"), "labels.json")
    numbers = _json(labels_file, dict)
    try:
        classes = tuple(sorted(numbers, key=lambda name: int(numbers[name])))
    except (TypeError, ValueError, OverflowError) as error:
        raise FileError(labels_file, f"does not number its templates ({error})") from error
    if len({int(number) for number in numbers.values()}) < len(classes):
        raise FileError(labels_file, "gives two templates the same number")
    path = find_file(labels, (f"{split}.json", f"{_OLD}{split}.json"), f"{split}.json")
    answers = _answers(labels) if split == "test" else {}
    entries = []
    for number, row in enumerate(_json(path, list)):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise FileError(path, f"entry {number} has no id")
        template = row.get("template", answers.get(row["id"]))
        # "Putting [something] on a surface" is called "Putting something on a surface" among the classes.
        entries.append((row["id"], None if template is None else str(template).replace("[", "").replace("]", "")))
    videos = find_folder(root, _VIDEOS, "videos")
    where = {name.rpartition("/")[2].rpartition(".")[0]: name for name in videos_below(videos)}
    return split_from(videos, path, entries, classes, where)


def _answers(labels: Path) -> dict[str, str]:
    """Templates of the test videos by id, from lines `id;template`; none without the file."""
    path = labels / "test-answers.csv"
    if not path.is_file():
        return {}
    rows = (line.split(";", 1) for line in read_text(path).splitlines() if ";" in line)
    return {name: template.strip() for name, template in rows}


def _json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise FileError(path, f"is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise FileError(path, f"is not a JSON {'object' if kind is dict else 'array'}")
    return value


OFFICIAL = Official(
    read=read,
    variants=("",),
    splits=("train", "validation", "test"),
    sizes={"": {"train": 168_913, "validation": 24_777, "test": 27_157}},
    classes={"": 174},
    instructions=(
        "The folder holds labels/ (labels.json, train.json, validation.json, test.json and, if wanted, "
        "test-answers.csv) and 20bn-something-something-v2/ (78687.webm, ...), as the archives unpack."
    ),
    homepage="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
    citation=(
        '@inproceedings{goyal2017something,\n  title={The "something something" video database for learning and '
        "evaluating visual common sense},\n  author={Goyal, Raghav and others},\n  booktitle={ICCV},\n  year={2017}\n}"
    ),
)
