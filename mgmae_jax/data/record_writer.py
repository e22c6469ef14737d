"""Writes files of records: the videos of a list, as they are or encoded again, one shard at a time.

A shard is a pure function of its task, and appears whole or not at all, so that any number of processes or machines may
write the shards of a data set, and an interrupted one resumes. What a shard holds, and what was left out, is listed
beside it.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
from array_record.python.array_record_module import ArrayRecordWriter

from mgmae_jax.data.decode import Item, OpenVideo, Readable, Video, open_video, reported
from mgmae_jax.data.encode import Encoding, encode_again
from mgmae_jax.data.example import Value, encode_example
from mgmae_jax.data.flow_places import flow_beside
from mgmae_jax.data.frame_folders import Frames
from mgmae_jax.data.records import MAX_VIDEO_BYTES, HeldVideo
from mgmae_jax.data.remote import is_remote
from mgmae_jax.data.timeline_cache import DECODER, pack_timeline
from mgmae_jax.errors import FileError, VideoError
from mgmae_jax.runtime.files import whole_file, write_text

# A record at a time can be read; and videos do not shrink by compressing them once more.
_OPTIONS = "group_size:1,uncompressed"
_REMEDY = "free space there, and run the same command again"
_UNREACHABLE = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENETUNREACH, errno.EHOSTUNREACH})


@dataclasses.dataclass(frozen=True)
class Row:
    """A video that is to become a record.

    Args:
      item: the video.
      name: unique within its split.
      label: index of its class, or -1.
      class_name: its class, or None.
    """

    item: Readable
    name: str
    label: int
    class_name: str | None


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A shard that is to be written.

    Args:
      path: its file.
      listing: the file that then lists what it holds; it is written last.
      rows: the videos, in the order of the records.
      encoding: how they are encoded again; None leaves them as they are, but for folders of frames.
    """

    path: str
    listing: str
    rows: tuple[Row, ...]
    encoding: Encoding | None


def write_shard(task: ShardTask) -> int:
    """Writes a shard, unless it is there.

    Args:
      task: what to write; videos that cannot be read are left out, and listed with the reason.

    Returns:
      The number of videos of the task.

    Raises:
      FileError: the shard cannot be written, or what a video lies on cannot be reached.
    """
    listing = Path(task.listing)
    if listing.exists():
        return len(task.rows)
    lines = []
    with whole_file(Path(task.path), _REMEDY) as partial:
        try:
            writer = ArrayRecordWriter(os.fspath(partial), _OPTIONS)
            for row in task.rows:
                try:
                    values = record_values(row.item, row.name, row.label, task.encoding)
                except VideoError as error:
                    if _is_out_of_reach(error):  # and so may be all that follow, which are there
                        told = f"{error.reason}: see why, and run the same command again"
                        raise FileError(error.path, told) from error
                    lines.append(json.dumps({"path": row.name, "left_out": error.reason}))
                    continue
                writer.write(encode_example(values))
                lines.append(json.dumps(index_row(row.name, row.class_name, values)))
            writer.close()
        except (RuntimeError, ValueError) as error:  # what ArrayRecord raises for a full disk, for example
            raise FileError(task.path, f"cannot be written ({error}): {_REMEDY}") from error
    write_text(listing, "".join(f"{line}\n" for line in lines), _REMEDY)
    return len(task.rows)


def _is_out_of_reach(error: VideoError) -> bool:
    """Whether a bucket or a file system failed, rather than the video."""
    cause = error.__cause__
    if cause is None or isinstance(cause, av.FFmpegError):  # which a damaged video raises
        return False
    if is_remote(error.path):  # each bucket's package has errors of its own
        return not isinstance(cause, FileNotFoundError | IsADirectoryError)
    if isinstance(cause, TimeoutError | ConnectionError):  # some have no errno
        return True
    return isinstance(cause, OSError) and cause.errno in _UNREACHABLE


def index_row(name: str, class_name: str | None, values: Mapping[str, Value]) -> dict[str, Any]:
    """A line of the index of a split.

    Args:
      name: of the video.
      class_name: its class, or None.
      values: its record.
    """
    facts = {key: values[key] for key in ("frames", "height", "width")}
    size = len(bytes(values["video"]))  # type: ignore[arg-type]  # bytes, see `records.FEATURES`
    return {"path": name, "label": class_name, **facts, "fps": round(float(values["fps"]), 3), "bytes": size}


def record_values(item: Readable, name: str, label: int, encoding: Encoding | None) -> dict[str, Value]:
    """The features of a video's record.

    Args:
      item: the video.
      name: see `Row`.
      label: see `Row`.
      encoding: see `ShardTask`.

    Raises:
      VideoError: the video cannot be read, or is too large for a record.
      FileError: the flow beside it is damaged, or of another video.
    """
    content = _content(item) if encoding is None else None
    if content is not None:
        with open_video(held_item(name, content)) as video:
            return _values(video, content, name, label, flow_beside(video, item))
    with open_video(item) as video:
        flow = flow_beside(video, item)
        try:
            again = encode_again(video.stream(), video.frame_size, video.fps, encoding or Encoding())
        except av.FFmpegError as error:
            raise VideoError(str(item), f"cannot be encoded again ({error})") from error
    with open_video(held_item(name, again)) as video:
        return _values(video, again, name, label, flow)


def held_item(name: str, content: bytes) -> Item:
    """A video of that name whose file is in memory."""
    return Item(name, lambda _: HeldVideo(name, content))


def _content(item: Readable) -> bytes | None:
    """The bytes of a video's file; None of a folder of frames."""
    if isinstance(item, Item):
        with reported(item.name):  # as `open_video` does; an OSError would pass for one of the shard
            given = item.opener(item.name)
            if isinstance(given, Frames):
                return None
            with given as file:
                content = file.read(MAX_VIDEO_BYTES + 1)
    elif os.path.isdir(item):
        return None
    else:
        try:
            with open(item, "rb") as file:
                content = file.read(MAX_VIDEO_BYTES + 1)
        except OSError as error:
            raise VideoError(os.fspath(item), f"cannot be read ({error.strerror})") from error
    if not content:
        raise VideoError(str(item), "is empty (0 bytes)")
    if len(content) > MAX_VIDEO_BYTES:
        raise VideoError(str(item), f"is over {MAX_VIDEO_BYTES >> 20} MiB, the most of a record: encode it again")
    return content


def _values(video: OpenVideo, content: bytes, name: str, label: int, flow: bytes) -> dict[str, Value]:
    assert isinstance(video, Video)
    height, width = video.frame_size
    return {
        "video": content,
        "id": name.encode("utf-8", "surrogateescape"),
        "label": label,
        "frames": video.frames,
        "fps": float(video.fps),
        "height": height,
        "width": width,
        "timeline": pack_timeline(video.timeline),
        "decoder": DECODER.encode(),
        "flow": flow,
    }
