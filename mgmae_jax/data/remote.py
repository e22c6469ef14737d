"""Lists and videos in a bucket: gs://, s3://, az:// and hf://, opened by fsspec, which Orbax brings along.

fsspec needs a package for each of them, which is not installed with this one. `etils.epath` would do the same, but with
TensorFlow installed it opens no seekable file.
"""

from __future__ import annotations

import errno
import os
import posixpath
from typing import BinaryIO

import fsspec

from mgmae_jax.errors import FileError
from mgmae_jax.runtime.paths import BUCKETS, remote_scheme

PACKAGES = dict(zip(BUCKETS, ("gcsfs", "s3fs", "adlfs", "huggingface_hub"), strict=True))
"""The package that reads each scheme."""
_MAX_REASON = 200  # characters; cloud clients quote whole responses


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is on another machine: it has a scheme, known or not."""
    return remote_scheme(path) is not None


def remote_url(path: str | os.PathLike[str]) -> str:
    """The URL of a remote path, also of what `Path` makes of it: gs:/bucket/a.mp4 is gs://bucket/a.mp4.

    Raises:
      FileError: the scheme cannot be read.
    """
    text, scheme = os.fspath(path), remote_scheme(path)
    if scheme not in PACKAGES:
        known = ", ".join(f"{one}://" for one in PACKAGES)
        raise FileError(text, f"{scheme}:// cannot be read: give a local path, or one of {known}")
    return f"{scheme}://{text.partition(':')[2].lstrip('/')}"


def join_listed(listed: str | os.PathLike[str], video: str) -> str:
    """The path of a video that a list names, relative to the list's folder or absolute; either may be remote.

    Args:
      listed: the list's own path.
      video: the path in a line of it.

    Raises:
      ValueError: the list cannot name it, for a reason that says why.
    """
    try:
        if is_remote(video):
            return remote_url(video)
        if not is_remote(listed):
            return os.path.join(os.path.dirname(listed), video)
        if video.startswith("/"):
            raise ValueError(f"names a path of one machine: give paths relative to the list, or whole URLs ({video!r})")
        return posixpath.join(posixpath.dirname(remote_url(listed)), video)
    except FileError as error:
        raise ValueError(f"{error.reason} ({video!r})") from error


def open_list(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a remote list.

    Args:
      path: its URL, like gs://bucket/train.csv.

    Returns:
      A seekable binary file.

    Raises:
      FileError: the scheme cannot be read, its package is not installed, or there is no such file.
    """
    try:
        return _open(path)
    except OSError as error:
        raise FileError(remote_url(path), f"cannot be opened ({error.strerror or error})") from error


def open_video_file(name: str) -> BinaryIO:
    """Opens a local or remote video; the `opener` of a `VideoList` with remote videos.

    Args:
      name: a path or URL.

    Returns:
      A seekable binary file.

    Raises:
      OSError: there is no such file, or it cannot be reached; `decode.open_video` reports it.
      FileError: the scheme cannot be read, or its package is not installed.
    """
    return _open(name) if is_remote(name) else open(name, "rb")


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    url, scheme = remote_url(path), str(remote_scheme(path))
    try:
        files = fsspec.filesystem(scheme)
    except ImportError as error:
        package = PACKAGES[scheme]
        reason = f"{scheme}:// is read by the package {package} ({_first_line(error)}): pip install {package}"
        raise FileError(url, f"{reason}, or mount the bucket and give its local path") from error
    except Exception as error:  # each package has errors of its own, such as for credentials
        raise OSError(errno.EIO, _first_line(error)) from error
    try:
        return files.open(url, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "no such file") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(errno.EISDIR, "is a folder") from error
    except Exception as error:
        raise OSError(errno.EIO, _first_line(error)) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:_MAX_REASON]
