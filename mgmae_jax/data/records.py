"""Videos in files of records: ArrayRecord shards that `mgmae prepare` or a TFDS builder wrote. No tfds here.

A record is a `tf.train.Example` with the features of `FEATURES`. Its video is read at once into memory, and its
timeline comes with it, so that nothing is demuxed for a clip.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import io
import itertools
import os
from collections.abc import Mapping
from typing import BinaryIO, Literal

from array_record.python.array_record_module import ArrayRecordReader

from mgmae_jax.data.example import Value, decode_example
from mgmae_jax.data.timeline import Timeline
from mgmae_jax.data.timeline_cache import DECODER, keep_timeline, kept_timeline, unpack_timeline
from mgmae_jax.errors import VideoError

FEATURES: dict[str, Literal["bytes", "text", "label", "int", "float"]] = {
    "video": "bytes",  # the encoded file
    "id": "text",  # its name, unique within its split
    "label": "label",  # index into the names of the classes; -1 without a label
    "frames": "int",
    "fps": "float",  # average; 0 if the file does not say
    "height": "int",  # of the frames as shown, in pixels
    "width": "int",
    "timeline": "bytes",  # see `data.timeline_cache.pack_timeline`
    "decoder": "text",  # versions of the FFmpeg libraries that read the timeline
    "flow": "bytes",  # the file of flow that lay beside the video, see `data.stored_flow`; empty without one
}
"""The features of a record, each with its type."""
MAX_VIDEO_BYTES = 2**30
"""The largest video that a record may hold: a protocol buffer ends at twice this."""
_OPEN_SHARDS = 128  # per process: data sets of thousands of shards must not use up its file descriptors
_REMEDY = "copy the shard again, or delete it and prepare the videos again"


@dataclasses.dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
      place: where it is, for messages: its shard's path and its number there.
      shard: the path of its shard.
      values: its features by name.
    """

    place: str
    shard: str
    values: Mapping[str, Value]

    @property
    def video(self) -> bytes:
        """The encoded file."""
        return bytes(self.values["video"])  # type: ignore[arg-type]  # checked when it was read

    def timeline(self) -> Timeline | None:
        """The video's timeline, if it was read by the decoder of this process; else the one that is kept on disk."""
        packed, decoder = self.values.get("timeline"), self.values.get("decoder")
        if isinstance(packed, bytes) and packed and decoder == DECODER.encode():
            return unpack_timeline(packed)
        return kept_timeline(self.place, self.shard)

    def keep(self, timeline: Timeline) -> None:
        """Keeps a timeline on disk that `timeline` did not find."""
        keep_timeline(self.place, timeline, self.shard)


class HeldVideo(io.BytesIO):
    """A video's file in memory.

    Args:
      name: its name; FFmpeg knows some formats only by how that ends.
      content: its bytes.
    """

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(content)
        self.name = name


class RecordFile(HeldVideo):
    """The video of a record as an open file; what a `Records` gives.

    Args:
      name: of the video.
      record: the record.
    """

    def __init__(self, name: str, record: Record) -> None:
        super().__init__(name, record.video)
        self.record = record


@dataclasses.dataclass(frozen=True)
class Records:
    """Opens the videos of a split by their names; the `opener` of its `VideoList`. Travels to worker processes.

    Args:
      shards: paths of the shards, in order.
      lengths: the number of records in each.
      places: the number of each video's record, counted through all shards, by the video's name.
    """

    shards: tuple[str, ...]
    lengths: tuple[int, ...]
    places: Mapping[str, int] = dataclasses.field(repr=False)

    def __call__(self, name: str) -> BinaryIO:
        """Opens the video of that name; `open_video` reads its record.

        Raises:
          VideoError: the shard is missing, truncated or foreign, or its record is not this video's.
        """
        return RecordFile(name, self.record(name))

    def alone(self, name: str) -> Records:
        """What opens that video only, and is small to send."""
        shard, number = self._where(name)
        return Records((self.shards[shard],), (self.lengths[shard],), {name: number})

    def record(self, name: str) -> Record:
        """Reads the record of the video of that name; see `__call__`."""
        shard, number = self._where(name)
        return read_record(self.shards[shard], number, name, self.lengths[shard])

    def _where(self, name: str) -> tuple[int, int]:
        """The shard of a video, and the number of its record there."""
        place = self.places[name]
        shard = bisect.bisect_right(self._ends, place)
        return shard, place - self._ends[shard] + self.lengths[shard]

    @functools.cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(self.lengths))


def read_record(path: str, number: int, name: str, length: int) -> Record:
    """Reads one record, in constant time.

    Args:
      path: the shard.
      number: the record's number in it.
      name: the video that it must hold.
      length: how many records the shard must hold.

    Raises:
      VideoError: the shard is missing, truncated or foreign, or the record is not that video's.
    """
    place = f"record {number} of {path}"
    try:
        reader = _reader(path)
        if reader.num_records() != length:
            raise ValueError(f"the shard holds {reader.num_records()} records, not {length}")
        values = decode_example(reader.read([number])[0])
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        _reader.cache_clear()  # the file may be replaced by a good one
        reason = str(error).partition("\n")[0][:200] if os.path.exists(path) else "there is no such file"
        raise VideoError(
            name, f"{place} cannot be read (damaged, truncated or foreign? {reason}): {_REMEDY}"
        ) from error
    missing = [feature for feature, kind in FEATURES.items() if not _is(values.get(feature), kind)]
    if missing:
        raise VideoError(name, f"{place} is not a record of a video: it has no {', '.join(missing)}; {_REMEDY}")
    if values["id"] != name.encode("utf-8", "surrogateescape"):
        raise VideoError(name, f"{place} is the video {_text(values['id'])!r}: {_REMEDY}")
    return Record(place, path, values)


def _is(value: Value | None, kind: str) -> bool:
    wanted = {"bytes": bytes, "text": bytes, "label": int, "int": int, "float": float}
    return isinstance(value, wanted[kind])


def _text(value: Value) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


@functools.lru_cache(_OPEN_SHARDS)
def _reader(path: str) -> ArrayRecordReader:
    # Reading ahead serves sequential reading only.
    return ArrayRecordReader(path, options="readahead_buffer_size:0", file_reader_buffer_size=32768)
