"""The bad videos of a run, counted once over all its processes."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mgmae_jax.data.batches import BadVideos
from mgmae_jax.runtime import peers
from mgmae_jax.runtime.distributed import is_primary

NAME = "bad_videos.jsonl"
_KIND = "bad_video"  # in the store of the processes


class SharedBadVideos:
    """Counts the bad videos that any process meets; the first process keeps the list, and ends the run past the limit.

    Calling it with a path and a reason adds one. It is also a hook of the loop, in which the first process learns what
    the others have met.

    Args:
      workdir: the run's folder, for bad_videos.jsonl.
      total: number of videos.
      max_fraction: the share of bad videos that the run tolerates.
      new: whether the run begins; what an earlier one left in the folder is then dropped.

    Raises:
      FileError: the list of a resumed run is damaged.
    """

    def __init__(self, workdir: Path, total: int, max_fraction: float, *, new: bool) -> None:
        self._peers = peers.current()
        if new and is_primary():
            (workdir / NAME).unlink(missing_ok=True)
        if is_primary() or self._peers is None:
            path = workdir / NAME if is_primary() else None
            self._add: Callable[[str, str], None] = BadVideos(path, total, max_fraction)
        else:
            self._add = functools.partial(self._peers.post, _KIND)

    def __call__(self, path: str, reason: str) -> None:
        """Adds a bad video, unless it is already known.

        Raises:
          MgmaeError: more than `max_fraction` of the videos are bad; raised in the first process.
        """
        self._add(path, reason)

    def hook(self, done: int, state: Any) -> None:
        """Adds what the other processes have met; see `loop.Hook`."""
        if is_primary() and self._peers is not None:
            for path, reason in self._peers.posted(_KIND).items():
                self._add(path, reason)
