"""Where the stored flow of a video lies, and what tells that the flow is this video's."""

from __future__ import annotations

import io
import os
from pathlib import Path

from mgmae_jax.data.decode import Item, OpenVideo, Readable
from mgmae_jax.data.records import Records
from mgmae_jax.data.remote import is_remote
from mgmae_jax.data.stored_flow import VideoFacts, content_digest, file_digest, read_flow
from mgmae_jax.errors import FileError

SUFFIX = ".flow.safetensors"


def flow_path(video: str | os.PathLike[str], root: str | Path = "", folder: str | Path = "") -> Path:
    """The path of the stored flow of a video's file.

    Args:
      video: the file.
      root: the folder of the videos.
      folder: where flow is stored, mirroring `root` (or the whole path of a video outside it); "" means beside the
        video.
    """
    beside = Path(f"{video}{SUFFIX}")
    if not folder:
        return beside
    absolute, root = Path(os.path.abspath(beside)), Path(os.path.abspath(root))
    return Path(folder) / absolute.relative_to(root if absolute.is_relative_to(root) else absolute.anchor)


def flow_place(item: Readable, root: str = "", folder: str = "") -> Path:
    """The path of the stored flow of any video; see `flow_path`.

    Raises:
      FileError: the video has no place beside it, and there is no folder.
    """
    name = str(item)
    if not isinstance(item, Item) or not (is_remote(name) or isinstance(item.opener, Records)):
        return flow_path(name, root, folder)
    if not folder:
        raise FileError(
            name,
            "has no place beside it for its flow: set config.flow.path to a folder, or compute the "
            "flow of the videos by `mgmae flow` before `mgmae prepare`",
        )
    inside = os.path.normpath(f"/{name.replace('://', '/')}").lstrip("/")  # never outside the folder
    return Path(folder) / f"{inside}{SUFFIX}"


def find_flow(item: Readable, record_flow: object, root: str = "", folder: str = "") -> Path | bytes:
    """Where the flow of a video is read: in its record, or in a file.

    Args:
      item: the video.
      record_flow: the feature "flow" of its record; None or empty without.
      root: see `flow_path`.
      folder: see `flow_path`.

    Raises:
      FileError: see `flow_place`.
    """
    if isinstance(record_flow, bytes) and record_flow:
        return record_flow
    return flow_place(item, root, folder)


def video_facts(video: OpenVideo, item: Readable) -> VideoFacts:
    """What a file of flow says of its video.

    Args:
      video: the open video.
      item: what was opened.

    Raises:
      FileError: the file cannot be read.
    """
    try:
        if video.record is not None:  # other records may hold another video of the same name
            digest = content_digest(io.BytesIO(video.record.video))
        else:
            digest = file_digest(str(item)) if not isinstance(item, Item) and os.path.isfile(item) else ""
        return VideoFacts(video.frames, *video.frame_size, digest)
    except OSError as error:
        raise FileError(str(item), f"cannot be read ({error.strerror})") from error


def flow_beside(video: OpenVideo, item: Readable) -> bytes:
    """The content of the file of flow beside a video, or in its record; empty without one.

    Args:
      video: the open video.
      item: what it was opened from.

    Raises:
      FileError: the file is damaged, or of another video.
    """
    if isinstance(item, Item) and isinstance(item.opener, Records):
        content = item.opener.record(item.name).values["flow"]
        assert isinstance(content, bytes)  # checked when it was read
        if content:
            read_flow(content, str(item), video_facts(video, item))
        return content
    if is_remote(str(item)) or not os.path.exists(path := flow_path(str(item))):
        return b""
    read_flow(path, str(item), video_facts(video, item))
    return path.read_bytes()
