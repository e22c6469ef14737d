"""The videos that a config names: a path, or a data set by its name. A new data set is a function and a line."""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from mgmae_jax.data.cores import usable_cores
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.distributed import barrier, is_primary

Split = Literal["train", "test"]
DEFAULT = "motion_shapes"
"""The data set that an empty `data.path` means."""
_MOST_PROCESSES = 16  # bounds memory and start-up time on machines with many cores


@dataclasses.dataclass(frozen=True)
class Request:
    """Which part of a data set to prepare.

    Args:
      split: "train" or "test".
      seed: the run's seed.
      options: config.data.NAME, the data set's own fields.
      flow: whether to store flow beside the videos, if the data set knows it.
      on_progress: called with (videos done, videos in total); None in processes that only wait.
    """

    split: Split
    seed: int
    options: Mapping[str, Any]
    flow: bool
    on_progress: Callable[[int, int], None] | None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set that is found by its name.

    Args:
      prepare: makes sure that a split is there, and returns what `read_source` reads; safe to call again, and in
        several processes at once.
      classes: names of its classes.
    """

    prepare: Callable[[Request], Path]
    classes: tuple[str, ...]


def prepare_motion_shapes(request: Request) -> Path:
    """Renders the procedural videos of a split; see `motion_shapes.prepare`."""
    options = request.options
    return motion_shapes.prepare(
        motion_shapes.default_cache(),
        videos=options["videos"] if request.split == "train" else options["test_videos"],
        seed=request.seed,
        split=request.split,
        size=(options["size"], options["size"]),
        frames=options["frames"],
        still=options.get("still", False),  # which only pre-training has
        flow=request.flow,
        processes=min(usable_cores(), _MOST_PROCESSES),
        on_progress=request.on_progress,
    )


DATASETS = {DEFAULT: Dataset(prepare_motion_shapes, motion_shapes.CLASSES)}


def find_videos(config: ConfigDict, split: Split = "train", *, flow: bool = False) -> VideoList:
    """The videos at `data.path`, or those of the data set of that name, which the first process prepares if necessary.

    Args:
      config: a run's config.
      split: "test" is what a fine-tuned model is evaluated on: the videos at `eval.path`, or the data set's own split.
      flow: whether to store flow beside the videos of a data set.

    Raises:
      ConfigError: the path is empty but that of the other split is not, or there are no videos there.
      FileError: there is no video, or the list is wrong.
    """
    path = config.data.path if split == "train" else config.eval.path
    name = dataset_name(config)
    if path and (path != name or os.path.exists(path)):
        return read_source(path, "data.path" if split == "train" else "eval.path")
    if name is None:
        want = "the videos that accuracy is measured on: a folder, a .csv or .jsonl list, or records"
        raise ConfigError("eval.path", path, want)
    prepare, request = DATASETS[name].prepare, Request(split, config.seed, config.data[name], flow, None)
    if is_primary():
        prepare(dataclasses.replace(request, on_progress=_tell_prepared))
    barrier(f"{name}_{split}")
    return read_source(prepare(request))


def dataset_name(config: ConfigDict) -> str | None:
    """The data set that `data.path` names; None if it is a path."""
    path = config.data.path or DEFAULT
    return path if path in DATASETS and (not config.data.path or not os.path.exists(path)) else None


def flow_folders(config: ConfigDict, video: Path | None = None) -> tuple[str, str]:
    """The folder of a pre-training config's videos, and the folder of their stored flow; see `flow_path`.

    The videos of a data set have their flow beside them, whatever `flow.path` is: both are then "".

    Args:
      config: the config.
      video: a video of the user's own in place of those of the data set; the folder that it is in is then the first.
    """
    folder = config.flow.get("path", "")  # which configs of runs from before flow was stored do not have
    if dataset_name(config) is not None:
        return ("", "") if video is None else (os.path.dirname(video), folder)
    path = config.data.path
    return path if os.path.isdir(path) else os.path.dirname(path), folder


def _tell_prepared(done: int, total: int) -> None:
    if done % max(64, total // 8) == 0 or done == total:
        print(f"prepared {done} of {total} videos", file=sys.stderr, flush=True)
