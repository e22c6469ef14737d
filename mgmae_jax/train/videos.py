"""The videos that a config names."""

import functools
import sys
from typing import Literal

from ml_collections import ConfigDict

from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.distributed import barrier, is_primary


def find_videos(config: ConfigDict, split: Literal["train", "test"] = "train") -> VideoList:
    """The videos at `data.path`, or the procedural ones, which the first process makes if need be.

    Args:
      config: of a run.
      split: "test" is what a fine-tuned model is measured on: the videos at `eval.path`, or the procedural ones of a
        split of their own.

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
    )
    if is_primary():
        make(on_progress=_tell_rendered)
    barrier(f"motion_shapes_{split}")
    return read_source(make())


def _tell_rendered(done: int, total: int) -> None:
    if done % max(64, total // 8) == 0 or done == total:
        print(f"rendered {done} of {total} procedural videos", file=sys.stderr, flush=True)
