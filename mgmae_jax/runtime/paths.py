"""Paths that the user gives in flags, config fields and environment variables; no jax here, since data workers use it.

A leading `~` is a home folder, as in a shell, which replaces it only where a word begins: not in `--workdir=~/run`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mgmae_jax.errors import MgmaeError

BUCKETS = ("gs", "s3", "az", "hf")
"""Schemes of remote storage that lists and videos can be read from."""
# `pathlib` makes gs:/bucket of gs://bucket. One letter is a drive; ./a:/b is the way to write a local folder "a:".
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_MOUNTS = {"gs": "gcsfuse", "gcs": "gcsfuse", "s3": "mount-s3 or s3fs"}


def remote_scheme(path: str | os.PathLike[str]) -> str | None:
    """The scheme of a path on another machine, in lower case: "gs" of gs://bucket/a.mp4; None of a local path.

    tfds:/records/mine is local: records in a folder here, see `data.record_lists`.
    """
    url = _URL.match(os.fspath(path))
    return None if url is None or url[1] == "tfds" else url[1].lower()


def local_path(value: str, name: str) -> Path:
    """The local path that a flag, field or variable gives, with `~` expanded.

    Args:
      value: what was given.
      name: what gave it, as messages call it: "--workdir", "config.flow.path", "$MGMAE_CACHE".

    Raises:
      MgmaeError: the path is empty or remote, or has a home folder that is not known.
    """
    return Path(local_text(value, name))


def local_text(value: str, name: str) -> str:
    """As `local_path`, but the text is otherwise left as it is: `runs/a/` keeps its last slash."""
    if not value:
        raise MgmaeError(f"{name}={value!r}: give a path.")
    if (scheme := remote_scheme(value)) is not None:
        raise MgmaeError(f"{name}={value!r}: {_local_instead(scheme)}.")
    return expand_home(value, name)


def source_path(value: str, name: str) -> str:
    """The path of videos or of a list, which may be in a bucket, with `~` expanded.

    Args:
      value: what was given.
      name: see `local_path`.

    Raises:
      MgmaeError: the path is remote, but not in a bucket; or has a home folder that is not known.
    """
    scheme = remote_scheme(value)
    if scheme is None:
        return expand_home(value, name)
    if scheme not in BUCKETS:
        known = ", ".join(f"{one}://" for one in BUCKETS)
        raise MgmaeError(f"{name}={value!r}: {scheme}:// cannot be read: give a local path, or one of {known}.")
    return f"{scheme}://{value[len(scheme) + 1 :].lstrip('/')}"


def expand_home(value: str, name: str) -> str:
    """Replaces a leading `~` or `~user` by that home folder.

    Args:
      value: a local path.
      name: see `local_path`.

    Raises:
      MgmaeError: the home folder is not known.
    """
    if not value.startswith("~"):
        return value
    first, slash, rest = value.partition("/")
    if first == "~":
        return f"{home(f'{name}={value!r}')}{slash}{rest}"
    try:
        return f"{Path(first).expanduser()}{slash}{rest}"
    except RuntimeError as error:
        user = first.removeprefix("~")
        raise MgmaeError(
            f"{name}={value!r}: there is no user {user!r} with a home folder here: give the whole path, or ./{value}."
        ) from error


def home(name: str, remedy: str = "give the whole path, or set $HOME") -> Path:
    """The user's home folder.

    Args:
      name: what needs it, as the message calls it.
      remedy: what the user can do if it is not known.

    Raises:
      MgmaeError: it is not known.
    """
    try:
        if os.environ.get("HOME") == "":  # Python would take the root of the file system
            raise RuntimeError("$HOME is empty")
        return Path.home()
    except RuntimeError as error:
        why = str(error) if "HOME" in os.environ else f"$HOME is not set, and user {os.getuid()} has none"
        raise MgmaeError(f"{name}: the home folder is not known ({why}): {remedy}.") from error


def cache_folder(kind: str) -> Path:
    """The folder of a kind of cached files: $MGMAE_CACHE/KIND, by default ~/.cache/mgmae_jax/KIND.

    Where $XDG_CACHE_HOME is set, it takes the place of ~/.cache.

    Args:
      kind: the folder's name.

    Raises:
      MgmaeError: a variable is not a local path, or none is set and the home folder is not known.
    """
    if own := os.environ.get("MGMAE_CACHE"):
        return local_path(own, "$MGMAE_CACHE") / kind
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return local_path(shared, "$XDG_CACHE_HOME") / "mgmae_jax" / kind
    remedy = "set $MGMAE_CACHE to a folder that you can write to"
    return home(f"~/.cache/mgmae_jax/{kind}", remedy) / ".cache" / "mgmae_jax" / kind


def _local_instead(scheme: str) -> str:
    if scheme == "file":
        return "give the path without file://"
    if scheme in BUCKETS or scheme in _MOUNTS:
        how = f" ({_MOUNTS[scheme]})" if scheme in _MOUNTS else ""
        return f"is not a local path: mount the bucket{how} and give a folder in it"
    return f"is not a local path ({scheme}://): give one"
