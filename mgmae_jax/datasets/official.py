"""The published data sets that can be prepared, by name. A new one is a module with an `OFFICIAL`, and a line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mgmae_jax.data.sources import check_access
from mgmae_jax.datasets import hmdb51, kinetics, something_something_v2, ucf101
from mgmae_jax.datasets.listed import NO_VIDEO, NONE_THERE, ListedSplit, Official
from mgmae_jax.errors import FileError, MgmaeError

OFFICIAL: Mapping[str, Official] = {
    "something_something_v2": something_something_v2.OFFICIAL,
    "kinetics": kinetics.OFFICIAL,
    "ucf101_videos": ucf101.OFFICIAL,  # TFDS has a ucf101 of its own, which holds decoded frames
    "hmdb51": hmdb51.OFFICIAL,
}
"""The data sets by the names of their TFDS builders."""


def find_official(text: str) -> tuple[str, str] | None:
    """The name and variant that a text such as `ucf101_videos/split1` means; None if it names no data set.

    Raises:
      MgmaeError: the data set has no such variant.
    """
    name, _, variant = text.partition("/")
    if name not in OFFICIAL:
        return None
    variants = OFFICIAL[name].variants
    if variant and variant not in variants:
        there = ", ".join(f"{name}/{one}" for one in variants if one) or name
        raise MgmaeError(f"{text}: there is no such variant: give {there}.")
    return name, variant or variants[0]


def read_official(root: Path, name: str, variant: str) -> dict[str, ListedSplit]:
    """Lists all splits of a data set whose files are there; at least the first one must be.

    Args:
      root: the folder of what was downloaded.
      name: of the data set.
      variant: see `Official.variants`.

    Raises:
      FileError: a file is missing or damaged, or the folder may not be looked at.
    """
    data_set = OFFICIAL[name]
    if not os.path.isdir(root):
        check_access(root)
        raise FileError(root, f"is not a folder: download {name} from {data_set.homepage}. {data_set.instructions}")
    first, *others = data_set.splits
    found = {first: data_set.read(root, variant, first)}
    for split in others:
        try:
            found[split] = data_set.read(root, variant, split)
        except FileError as error:
            if not _is_absent(error):
                raise
    return found


def _is_absent(error: FileError) -> bool:
    return error.reason.startswith(("has no ", NO_VIDEO, NONE_THERE))


def size_notes(name: str, variant: str, found: Mapping[str, ListedSplit]) -> list[str]:
    """What differs from the published data set: a line for each split of another size, and for the classes."""
    data_set, notes = OFFICIAL[name], []
    label = f"{name}/{variant}" if variant else name
    for split, listed in found.items():
        published = data_set.sizes[variant][split]
        if len(listed.names) != published:
            missing = f", {len(listed.missing)} are listed but not there" if listed.missing else ""
            notes.append(f"{label}, {split}: {len(listed.names)} videos, and {published} were published{missing}")
    classes = max(len(listed.classes) for listed in found.values())
    if classes != data_set.classes[variant]:
        notes.append(f"{label}: {classes} classes, and {data_set.classes[variant]} were published")
    notes += [f"{label}, {split}: no video is listed and there" for split in data_set.splits if split not in found]
    return notes
