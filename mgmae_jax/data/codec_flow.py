"""Flow from the motion vectors that a video's own encoder stored: nearly free, because the decoder reads them anyway.

A block of a P-frame says where its content lay in an earlier frame; one of a B-frame, in an earlier frame, a later one,
or both. FFmpeg gives the vectors and which way they go, but not to which frame: that is taken to be the nearest one
that others may refer to. A vector over n frames is n equal steps. The rules for what this leaves open:

- I- and P-frames may be referred to, and those B-frames of H.264 that are marked so (a pyramid). An encoder with
  several references for a frame may mean one further away: the steps are then too long.
- Of B-frames of MPEG-4 nothing is read: FFmpeg gives 0 for blocks in direct mode.
- Blocks without vectors (intra-coded: mostly what appears, or moves too fast) take the mean of the blocks around them.
- A step without any vectors, such as that to a keyframe, repeats the next one that has some, or else the one before.
- The encoder chose the vectors for the fewest bits: where there is no texture, they need not be motion. So each square
  takes the median of the 5 x 5 around it. On 13 clips of UCF101 and Kinetics the masks then have 0.90 of the visible
  tokens of RAFT's, as those of DIS, and without it 0.89.

What comes out is what `data.stored_flow` reads from files, so it is chained and cut to the crop in the same way.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np
from av.video.frame import PictureType, VideoFrame

from mgmae_jax.data.decode import OpenVideo, Readable, Video
from mgmae_jax.data.stored_clips import window_size
from mgmae_jax.data.stored_flow import StoredFlow, cell_grid
from mgmae_jax.data.timeline import Placement
from mgmae_jax.errors import FileError, VideoError

CELLS = 32
"""How many cells the flow's grid has along the shorter side of a frame, whatever the video's size."""
WINDOW = window_size((CELLS, CELLS))
"""How many rows and columns of this grid a crop takes."""
_BLOCK = 8  # pixels: the smallest block that FFmpeg gives a vector for
_WITH_VECTORS = (
    "flv1", "h261", "h263", "h263i", "h263p", "h264", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2",
    "msmpeg4", "rv10", "rv20", "svq3", "wmv1", "wmv2",
)  # fmt: skip
_SLICES = (1, 2, 5)  # the types of H.264's units that hold a picture
_OTHER_SOURCE = "set config.flow.source to raft, dis, tvl1 or stored"


def decode_with_flow(video: OpenVideo, item: Readable, indices: np.ndarray) -> tuple[np.ndarray, StoredFlow]:
    """Decodes the frames of a clip, and the flow from the first to the last of them in the same pass.

    Args:
      video: the open video, of which nothing has been decoded yet.
      item: what was opened.
      indices: int [T], the frames, none smaller than the one before it.

    Returns:
      uint8 [T, H, W, 3] as `Video.decode` gives them, and the flow of every step between the first and the last.

    Raises:
      FileError: the video is of a kind that has no motion vectors; this ends a run.
      VideoError: no frame has any in this video although others of its codec do; or it cannot be decoded.
    """
    if not isinstance(video, Video):
        raise FileError(str(item), f"is a folder of pictures, without motion vectors: {_OTHER_SOURCE}")
    first, last = int(indices[0]), int(indices[-1])
    seen = _Seen(first, last, video.codec)
    frames = video.decode(indices, watch=seen)
    height, width = video.frame_size
    stored = (width, height) if video.timeline.placement.transpose else (height, width)
    raster = _Raster(*stored)
    if last > first and not seen.vectors:
        if video.codec not in _WITH_VECTORS:
            reason = (
                f"is {video.codec} video, of which FFmpeg gives no motion vectors: `mgmae prepare --codec h264` "
                f"encodes videos again, so that they have some; or {_OTHER_SOURCE}"
            )
            raise FileError(str(item), reason)
        raise VideoError(str(item), f"has no motion vectors from frame {first} to {last} (keyframes only?)")
    past, future = _per_frame(seen, raster, video.codec)
    steps = _steps(last - first, first, past, future, raster)
    shape = _grid_shape(height, width)
    return frames, StoredFlow(_on_grid(steps, raster, video.timeline.placement, shape), first, cell_grid(*shape))


class _Seen:
    """What the decoder says of the frames of a video; see `Video.decode`.

    Attributes:
      bidirectional: whether a frame is a B-frame, by its index.
      order: the place of each frame in the order of decoding.
      referred: the frames that others may refer to.
      vectors: the motion vectors of each frame from `first` to `last` that has some.
    """

    def __init__(self, first: int, last: int, codec: str) -> None:
        self.bidirectional: dict[int, bool] = {}
        self.order: dict[int, int] = {}
        self.referred: list[int] = []
        self.vectors: dict[int, np.ndarray] = {}
        self._first, self._last, self._codec = first, last, codec
        self._before: VideoFrame | None = None

    def __call__(self, index: int, frame: VideoFrame) -> bool:
        """Takes note of a frame; returns whether vectors lead to a later one that has not come yet."""
        if frame is not self._before:  # else it stands in for a frame that does not decode
            self._before = frame
            self._note(index, frame)
        if index < self._last or self._codec == "mpeg4":
            return False
        return any(self.bidirectional[one] and self.later(one) is None for one in self.vectors)

    def earlier(self, index: int) -> int | None:
        """The nearest frame before one that it may refer to."""
        return max((one for one in self.referred if one < index and self.order[one] < self.order[index]), default=None)

    def later(self, index: int) -> int | None:
        """The nearest frame after one that it may refer to."""
        return min((one for one in self.referred if one > index and self.order[one] < self.order[index]), default=None)

    def _note(self, index: int, frame: VideoFrame) -> None:
        number, packet = frame.opaque if isinstance(frame.opaque, tuple) else (index, b"")
        self.order[index] = number
        self.bidirectional[index] = frame.pict_type == PictureType.B
        if not self.bidirectional[index] or (self._codec == "h264" and _is_referred(packet)):
            self.referred.append(index)
        if self._first <= index <= self._last:
            side = frame.side_data.get("MOTION_VECTORS")
            if side is not None and len(side):
                self.vectors[index] = side.to_ndarray().copy()  # the memory is the frame's


def _is_referred(packet: bytes) -> bool:
    """Whether the frame in a packet of H.264 is marked as a reference (`nal_ref_idc`, ITU-T H.264, 7.4.1)."""
    heads, place = [], 0
    while place + 4 < len(packet):  # units after their lengths
        heads.append(packet[place + 4])
        place += 4 + int.from_bytes(packet[place : place + 4], "big")
    # A length of 256 to 511 looks like a start code, but after start codes no lengths lead to the end of the packet.
    if place != len(packet) and packet.startswith((b"\0\0\1", b"\0\0\0\1")):
        heads = [unit[0] for unit in packet.split(b"\0\0\1")[1:] if unit]
    return any(head & 0x1F in _SLICES and head & 0x60 for head in heads)


@dataclasses.dataclass(frozen=True)
class _Raster:
    """Equal squares of a frame as it is stored, of one or more blocks; the last row and column may go beyond it."""

    height: int
    width: int

    @functools.cached_property
    def side(self) -> int:
        """Of a square, in pixels: about a cell of the grid, so that of large frames blocks are averaged."""
        return _BLOCK * max(1, min(self.height, self.width) // (_BLOCK * CELLS))

    @functools.cached_property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns of them there are."""
        return -(-self.height // self.side), -(-self.width // self.side)


class _Field(NamedTuple):
    """Displacements float32 [h, w, 2] in pixels by square, and whether each is known."""

    values: np.ndarray
    known: np.ndarray

    def reversed(self) -> _Field:
        return _Field(-self.values, self.known)


def _per_frame(seen: _Seen, raster: _Raster, codec: str) -> tuple[dict[int, _Field], dict[int, _Field]]:
    """The displacement of each frame to the frame before it, and to the frame after it, where its vectors tell it."""
    past: dict[int, _Field] = {}
    future: dict[int, _Field] = {}
    for index, vectors in seen.vectors.items():
        both = seen.bidirectional[index]
        if both and codec == "mpeg4":
            continue
        after = seen.later(index) if both else None
        for reference, way, fields in ((seen.earlier(index), -1, past), (after, 1, future)):
            if reference is not None and (chosen := vectors[np.sign(vectors["source"]) == way]).size:
                fields[index] = _painted(chosen, raster, abs(reference - index))
    return past, future


def _painted(vectors: np.ndarray, raster: _Raster, distance: int) -> _Field:
    """The mean displacement in each square, over `distance` frames, for one frame."""
    rows, columns = raster.shape
    scale = vectors["motion_scale"].astype(np.float32) * distance
    motion = np.stack([vectors["motion_x"] / scale, vectors["motion_y"] / scale])
    weight = np.zeros(rows * columns)
    total = np.zeros((2, rows * columns))
    wide, high = vectors["w"].astype(np.int64), vectors["h"].astype(np.int64)
    left, top = vectors["dst_x"] - wide // 2, vectors["dst_y"] - high // 2  # a vector's place is its block's centre
    for down in (0, 1):
        for right in (0, 1):
            row, column = (top + down * _BLOCK) // raster.side, (left + right * _BLOCK) // raster.side
            inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            inside &= (high > down * _BLOCK) & (wide > right * _BLOCK)
            cell = (row * columns + column)[inside]
            weight += np.bincount(cell, minlength=rows * columns)
            total += [np.bincount(cell, one[inside], rows * columns) for one in motion]
    values = (total / np.maximum(weight, 1)).T.reshape(rows, columns, 2)
    return _Field(values.astype(np.float32), weight.reshape(rows, columns) > 0)


def _steps(count: int, first: int, past: dict[int, _Field], future: dict[int, _Field], raster: _Raster) -> np.ndarray:
    """The flow of `count` steps from frame `first` on, both ways: float32 [count, 2, h, w, 2] in pixels."""
    steps = np.empty((count, 2, *raster.shape, 2), np.float32)
    backs = [
        _first_known(
            raster,
            (past.get(index + 1), _reverse(future.get(index + 1)), _reverse(future.get(index))),
        )
        for index in range(first, first + count)
    ]
    some = [step for step, back in enumerate(backs) if back.known.any()]
    for step in range(count):
        take = next((other for other in some if other >= step), some[-1] if some else step)
        back = steps[step, 1] = _median(_filled(backs[take]))
        ahead = future.get(first + step)
        inverse = -_read_at(back, -back / raster.side)
        steps[step, 0] = inverse if ahead is None else np.where(ahead.known[..., None], ahead.values, inverse)
    return steps


def _reverse(field: _Field | None) -> _Field | None:
    return None if field is None else field.reversed()


def _first_known(raster: _Raster, fields: Iterable[_Field | None]) -> _Field:
    """In each square, the displacement of the first field that knows it."""
    found = _Field(np.zeros((*raster.shape, 2), np.float32), np.zeros(raster.shape, bool))
    for field in fields:
        if field is not None:
            values = np.where(found.known[..., None], found.values, field.values)
            found = _Field(values, found.known | field.known)
    return found


def _filled(field: _Field) -> np.ndarray:
    """The displacements, with the mean of what is known around each square where it is not, ring by ring."""
    values, known = field.values * field.known[..., None], field.known
    if not known.any():
        return values
    while not known.all():
        weight = cv2.blur(known.astype(np.float32), (3, 3), borderType=cv2.BORDER_CONSTANT)
        mean = cv2.blur(values, (3, 3), borderType=cv2.BORDER_CONSTANT) / np.maximum(weight, 1e-6)[..., None]
        grown = known | (weight > 1e-3)
        values = np.where(known[..., None], values, mean * grown[..., None]).astype(np.float32)
        known = grown
    return values


def _median(field: np.ndarray) -> np.ndarray:
    """The median around each square, of x and of y."""
    return np.stack([cv2.medianBlur(np.ascontiguousarray(field[..., axis]), 5) for axis in (0, 1)], -1)


def _read_at(field: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A field, read where an offset [h, w, 2] in squares leads to, bilinearly, or at the nearest border."""
    rows, columns = field.shape[:2]
    here = np.stack(np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32)), -1)
    return _remapped(field, here + offset)


def _remapped(field: np.ndarray, places: np.ndarray) -> np.ndarray:
    remap: Callable[..., np.ndarray] = cv2.remap  # the second map may be None, but the stubs forbid it
    return remap(field, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _grid_shape(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the grid of a frame as shown: `CELLS` along the shorter side."""
    shorter = min(height, width)
    return round(CELLS * height / shorter), round(CELLS * width / shorter)


def _on_grid(steps: np.ndarray, raster: _Raster, placement: Placement, shape: tuple[int, int]) -> np.ndarray:
    """Flow by squares of the stored frame, in pixels, as flow of the cells of the shown frame, in steps of them."""
    rows, columns = shape[::-1] if placement.transpose else shape
    y = ((np.arange(rows, dtype=np.float32) + 0.5) * (raster.height / rows)) / raster.side - 0.5
    x = ((np.arange(columns, dtype=np.float32) + 0.5) * (raster.width / columns)) / raster.side - 0.5
    places = np.stack(np.meshgrid(x, y), -1).astype(np.float32)
    scale = np.array([columns / raster.width, rows / raster.height], np.float32)
    flat = steps.reshape(-1, *steps.shape[2:])
    cells = np.empty((len(flat), *shape, 2), np.float32)
    for one, out in zip(flat, cells, strict=True):
        moved = placement.upright(_remapped(one, places) * scale)
        out[:] = moved[..., ::-1] if placement.transpose else moved
    cells *= np.array([-1 if placement.mirror_x else 1, -1 if placement.mirror_y else 1], np.float32)
    return cells.reshape(*steps.shape[:2], *shape, 2)
