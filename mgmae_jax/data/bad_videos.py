"""Videos that cannot be read in training are counted, logged once and listed; too many of them stop the run."""

from __future__ import annotations

import json
from pathlib import Path

from absl import logging

from mgmae_jax.errors import FileError, MgmaeError


class BadVideos:
    """The bad videos of a run; calling it with a path and a reason adds one.

    Args:
      path: a JSON-lines file that each bad video is appended to; those listed there before a restart count as seen.
        None keeps no list.
      total: number of videos in the data set.
      max_fraction: the share of bad videos that a run bears, from 0 to 1.

    Raises:
      FileError: a line of the list is not what this class wrote.
    """

    def __init__(self, path: Path | None, total: int, max_fraction: float) -> None:
        self._path, self._total, self._max_fraction = path, total, max_fraction
        self._reasons: dict[str, str] = {}
        if path is not None and path.exists():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    entry = json.loads(line)
                    self._reasons[entry["path"]] = entry["reason"]
                except (ValueError, TypeError, KeyError) as error:
                    raise FileError(path, f'line {number}: is not {{"path": ..., "reason": ...}}; mend it') from error

    @property
    def count(self) -> int:
        """Number of bad videos, those of earlier starts of the run among them."""
        return len(self._reasons)

    def __call__(self, path: str, reason: str) -> None:
        """Adds a bad video, unless it is known.

        Args:
          path: the file.
          reason: what is wrong with it.

        Raises:
          MgmaeError: more than `max_fraction` of the videos are bad; it lists them.
        """
        if path not in self._reasons:
            self._reasons[path] = reason
            logging.warning("Bad video, another takes its place: %s: %s", path, reason)
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"path": path, "reason": reason}) + "\n")
        if self.count > self._max_fraction * self._total:
            shown = [f"  {path}: {reason}" for path, reason in list(self._reasons.items())[:20]]
            where = f" (all of them: {self._path})" if self._path else ""
            raise MgmaeError(
                f"{self.count} of {self._total} videos cannot be read, more than "
                f"config.data.max_bad_fraction={self._max_fraction} bears{where}:\n" + "\n".join(shown)
            )
