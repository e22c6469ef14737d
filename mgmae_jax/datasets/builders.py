"""TFDS builders of the published data sets, and of one's own videos: they write what `mgmae prepare` writes.

    tfds build ucf101_videos/split1 --imports=mgmae_jax.datasets.builders --manual_dir=DOWNLOADS \\
        --file_format=array_record
    mgmae pretrain ... --config.data.path=tfds:ucf101_videos/split1

One process, and the videos keep their bytes: `mgmae prepare` is for many processes and for encoding again. Importing
this module registers the builders with TFDS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging

from mgmae_jax.data.record_lists import index_path
from mgmae_jax.data.record_writer import index_row, record_values
from mgmae_jax.data.sources import LISTS, read_source
from mgmae_jax.datasets.listed import ListedSplit, own_split
from mgmae_jax.datasets.official import OFFICIAL, read_official, size_notes
from mgmae_jax.datasets.prepare import LEFT_OUT, common_classes, rows_of
from mgmae_jax.datasets.record_info import VERSION, record_features
from mgmae_jax.errors import FileError, VideoError

_OWN_SPLITS = ("train", "validation", "test")


class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc,call-arg]  # untyped
    """A data set whose users have its files already; a subclass says how its splits are listed."""

    VERSION = tfds.core.Version(VERSION)

    def listed(self, manual_dir: Path) -> Mapping[str, ListedSplit]:
        """The videos of each split that is there.

        Args:
          manual_dir: the folder of the files.
        """
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(features=record_features(None), disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, Any]]]:
        splits = self.listed(Path(dl_manager.manual_dir))
        classes = common_classes(splits)
        self.info.features["label"].names = list(classes)  # known only now
        return {split: self._generate_examples(split, listed, classes) for split, listed in splits.items()}

    def _generate_examples(
        self, split: str, listed: ListedSplit, classes: tuple[str, ...]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the records of a split, and lists them, and what is left out, beside them."""
        left_out = [(name, "no such file") for name in listed.missing]
        kept = 0
        with index_path(self.data_dir, split).open("w", encoding="utf-8") as index:
            for number, row in enumerate(rows_of(listed, classes)):
                try:
                    values = record_values(row.item, row.name, row.label, None)
                except VideoError as error:
                    left_out.append((row.name, error.reason))
                    continue
                index.write(json.dumps(index_row(row.name, row.class_name, values)) + "\n")
                kept += 1
                yield number, values
        if left_out:
            with (Path(self.data_dir) / LEFT_OUT).open("a", encoding="utf-8") as file:
                file.writelines(
                    json.dumps({"split": split, "path": name, "reason": reason}) + "\n" for name, reason in left_out
                )
            logging.warning("%s, %s: %d videos are left out, see %s", self.name, split, len(left_out), LEFT_OUT)
        if not kept:
            raise FileError(self.data_dir, f"none of the videos of {split} can be read ({left_out[:1]})")


class _OfficialBuilder(VideoBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A published data set."""

    def listed(self, manual_dir: Path) -> Mapping[str, ListedSplit]:
        """See `VideoBuilder.listed`; what differs from the published numbers is logged."""
        variant = self.builder_config.name if self.builder_config else ""
        found = read_official(manual_dir, self.name, variant)
        for note in size_notes(self.name, variant, found):
            logging.warning("%s", note)
        return found

    def _info(self) -> tfds.core.DatasetInfo:
        data_set = OFFICIAL[self.name]
        return self.dataset_info_from_configs(
            features=record_features(None),
            disable_shuffling=True,
            homepage=data_set.homepage,
            citation=data_set.citation,
        )


def _configs(name: str) -> list[tfds.core.BuilderConfig]:
    return [tfds.core.BuilderConfig(name=variant, version=VERSION) for variant in OFFICIAL[name].variants]


class SomethingSomethingV2(_OfficialBuilder):
    """Something-Something V2."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = OFFICIAL["something_something_v2"].instructions


class Kinetics(_OfficialBuilder):
    """Kinetics-400, -600 and -700, as configs 400, 600 and 700."""

    BUILDER_CONFIGS: ClassVar = _configs("kinetics")
    MANUAL_DOWNLOAD_INSTRUCTIONS = OFFICIAL["kinetics"].instructions


class Ucf101Videos(_OfficialBuilder):
    """UCF101, as configs split1, split2 and split3."""

    BUILDER_CONFIGS: ClassVar = _configs("ucf101_videos")
    MANUAL_DOWNLOAD_INSTRUCTIONS = OFFICIAL["ucf101_videos"].instructions


class Hmdb51(_OfficialBuilder):
    """HMDB51, as configs split1, split2 and split3."""

    BUILDER_CONFIGS: ClassVar = _configs("hmdb51")
    MANUAL_DOWNLOAD_INSTRUCTIONS = OFFICIAL["hmdb51"].instructions


class OwnVideos(VideoBuilder):
    """Videos of one's own: a folder or list for each split."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds train, and if wanted validation and test, each a folder of videos or a list: train.csv or "
        "train.jsonl."
    )

    def listed(self, manual_dir: Path) -> Mapping[str, ListedSplit]:
        """See `VideoBuilder.listed`."""
        found = {}
        for split in _OWN_SPLITS:
            there = [path for ending in ("", *LISTS) if os.path.exists(path := manual_dir / f"{split}{ending}")]
            if there:
                found[split] = own_split(read_source(there[-1], "manual_dir"), str(there[-1]))
        if not found:
            raise FileError(manual_dir, f"has no videos: {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        return found
