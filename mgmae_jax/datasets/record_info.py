"""What TFDS knows about records of videos: their features, and the files beside the shards. Imports TFDS."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from mgmae_jax.data.record_lists import INFO
from mgmae_jax.data.records import FEATURES

VERSION = "1.0.0"
INFO_PREFIX = ".info-"
"""What the name of a folder begins with in which `write_info` writes; a killed process leaves it behind."""
_TYPES = {"int": np.int64, "float": np.float32}


def record_features(classes: Sequence[str] | None) -> tfds.features.FeaturesDict:
    """The features of a record, as TFDS names them.

    Args:
      classes: names of the classes; none without labels. None leaves them open: `features["label"].names` is set later.
    """
    kinds = {
        "bytes": lambda: tfds.features.Tensor(shape=(), dtype=np.object_),
        "text": tfds.features.Text,
        "label": lambda: tfds.features.ClassLabel(names=None if classes is None else list(classes)),
    }
    return tfds.features.FeaturesDict(
        {name: kinds[kind]() if kind in kinds else _TYPES[kind] for name, kind in FEATURES.items()}
    )


def shard_name(name: str, split: str, number: int, shards: int) -> str:
    """The file name of a shard."""
    return f"{name}-{split}.array_record-{number:05d}-of-{shards:05d}"


def write_info(
    folder: Path, name: str, classes: Sequence[str], splits: Mapping[str, Sequence[tuple[int, int]]], about: str
) -> None:
    """Writes the files by which TFDS, and `read_source`, read a folder of shards; the deciding one last.

    Args:
      folder: where the shards are.
      name: of the data set.
      classes: names of the classes; none without labels.
      splits: the number of records and the bytes of each shard, by split.
      about: a description.
    """
    with tempfile.TemporaryDirectory(prefix=INFO_PREFIX, dir=folder) as partial:
        template = tfds.core.ShardedFileTemplate(
            data_dir=Path(partial), dataset_name=name, filetype_suffix="array_record"
        )
        infos = [
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[records for records, _ in shards],
                num_bytes=sum(size for _, size in shards),
                filename_template=template.replace(split=split),
            )
            for split, shards in splits.items()
        ]
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=name, version=tfds.core.utils.Version(VERSION), data_dir=partial, module_name=""
        )
        info = tfds.core.DatasetInfo(
            builder=identity, features=record_features(classes), description=about, disable_shuffling=True
        )
        info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
        info.set_splits(tfds.core.splits.SplitDict(infos))
        info.write_to_directory(partial)
        for file in sorted(os.listdir(partial), key=lambda file: (file == INFO, file)):
            os.replace(os.path.join(partial, file), folder / file)
