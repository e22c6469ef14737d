"""The videos that a config names."""

import functools
import os
import sys
from typing import Literal

from ml_collections import ConfigDict

from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.distributed import barrier, is_primary

# A bound on memory and on starting time where a machine has many cores.
_MOST_PROCESSES = 16


def find_videos(config: ConfigDict, split: Literal["train", "test"] = "train", *, flow: bool = False) -> VideoList:
    """The videos at `data.path`, or the procedural ones, which the first process makes if need be.

    Args:
      config: of a run.
      split: "test" is what a fine-tuned model is measured on: the videos at `eval.path`, or the procedural ones of a
        split of their own.
      flow: whether the procedural videos need their true flow beside them.

    Raises:
      ConfigError: the path is empty where that of the other split is not, or there is nothing of the kind there.
      FileError: there is no video, or the list is wrong.
    """
    path = config.data.path if split == "train" else config.eval.path
    if path:
        return read_source(path)
    if split == "test" and config.data.path:
        raise ConfigError("eval.path", path, "the videos that accuracy is measured on: a folder, .csv or .jsonl list")
    options = config.data.motion_shapes
    make = functools.partial(
        motion_shapes.prepare,
        motion_shapes.default_cache(),
        videos=options.videos if split == "train" else options.test_videos,
        seed=config.seed,
        split=split,
        size=(options.size, options.size),
        frames=options.frames,
        flow=flow,
        processes=min(os.cpu_count() or 1, _MOST_PROCESSES),
    )
    if is_primary():
        make(on_progress=_tell_rendered)
    barrier(f"motion_shapes_{split}")
    return read_source(make())


def flow_folders(config: ConfigDict) -> tuple[str, str]:
    """The folder that the videos of a pre-training config lie in, and the one their stored flow does; see `flow_path`.

    Procedural videos have their flow beside them, whatever `flow.path` is: both are then "".
    """
    if not (path := config.data.path):
        return "", ""
    # The fields of a run from before flow was stored have no such path.
    return path if os.path.isdir(path) else os.path.dirname(path), config.flow.get("path", "")


def _tell_rendered(done: int, total: int) -> None:
    if done % max(64, total // 8) == 0 or done == total:
        print(f"rendered {done} of {total} procedural videos", file=sys.stderr, flush=True)
