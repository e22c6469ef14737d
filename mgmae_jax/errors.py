"""Errors that the user can fix; the command line prints their message without a traceback."""

from __future__ import annotations

from pathlib import Path


class MgmaeError(Exception):
    """Something outside the program is wrong: a file, a field of the config, a flag.

    The message names it, the value seen, and what would work instead.
    """


class ConfigError(MgmaeError):
    """A field of the config has a value that cannot work.

    Args:
      field: the dotted name, as after `--config.`: "mask.ratio".
      value: what was given.
      want: what would work instead, as a phrase: "a number above 0 and below 1".
    """

    def __init__(self, field: str, value: object, want: str) -> None:
        super().__init__(f"config.{field}={value!r}: give {want}.")
        self.field, self.value, self.want = field, value, want

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.want)


class FileError(MgmaeError):
    """A file cannot be used.

    Args:
      path: the file.
      reason: what is wrong with it, as a phrase: "has no video stream".
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = str(path), reason

    def __reduce__(self) -> tuple[type[FileError], tuple[str, str]]:
        # The default calls the class with only the joined message, which fails when a data worker sends it back.
        return type(self), (self.path, self.reason)


class VideoError(FileError):
    """A video file cannot provide the requested frames."""


class PeerError(MgmaeError):
    """Another process of the run has failed, and explains why; this one stops with it."""


class InUseError(MgmaeError):
    """Another process has a folder."""


class StoppedError(MgmaeError):
    """A run was told to stop by SIGTERM and has saved its state: the same command resumes."""


class WeightsError(FileError):
    """A weights file is damaged, of another format or of another shape; the reason names the tensors that differ."""
