"""The file of a video's flow, in eight bits a number, which says of which video it is and how it was computed.

The file of `a.mp4` is `a.mp4.flow.safetensors` beside it, or the feature "flow" of its record. Flow lies on a grid over
the whole frame, an eighth of the frames that it was computed on, and counts in steps of this grid; tensors are

- values: uint8 [F - 1, 2, h, w, 2] for F frames, x then y: entry [j, 0] from frame j to j + 1, at points of frame j;
  [j, 1] from frame j + 1 back to j, at points of frame j + 1.
- range: float32 [F - 1, 2, 2, 2]: the lowest number of each [j, way], and what one unit of its values stands for; for
  x, then y.
- grid: float32 [2, 2]: where the grid's points lie, see `Grid`; for y, then x.
- check: uint32 [F - 1], CRC-32 of each step's values and range after the grid.

The file is a safetensors file, with the metadata of `FIELDS`. A stretch of a video is read alone, and all of it is
checked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np

from mgmae_jax.errors import FileError
from mgmae_jax.runtime.files import whole_file

VERSION = "2"  # raised when a reader would take the same bytes for something else
FIELDS = ("format", "version", "video", "method", "frames", "height", "width")
"""Metadata: "mgmae-jax flow", the version, the digest of the video's file, how the flow was computed, and the video's
number of frames and their size in pixels."""
_FORMAT = "mgmae-jax flow"
_AGAIN = "`mgmae flow --config CONFIG --config.data.path=VIDEOS` computes it again"
_DTYPES = {"values": "U8", "range": "F32", "grid": "F32", "check": "U32"}
_BYTES = {"U8": 1, "F32": 4, "U32": 4}
_MAX_HEADER = 4096  # bytes
_DIGESTED = 64 * 1024  # bytes at both ends of a video's file


class Grid(NamedTuple):
    """Where the points of a grid lie: at fraction f of the frame's height or width, the index is start + span * f.

    Attributes:
      start: of rows and columns.
      span: of rows and columns; also how many steps of the grid the frame's height and width are.
    """

    start: tuple[float, float]
    span: tuple[float, float]


class VideoFacts(NamedTuple):
    """What tells one video from another.

    Attributes:
      frames: how many.
      height: of the frames in pixels.
      width: of the frames in pixels.
      digest: of the file or of a record's video, see `content_digest`; "" of folders of frames and remote videos, which
        are not compared.
    """

    frames: int
    height: int
    width: int
    digest: str = ""


@dataclasses.dataclass(frozen=True)
class StoredFlow:
    """The flow of a stretch of a video.

    Attributes:
      steps: float32 [n, 2, h, w, 2], in steps of the grid, as `values` above, for the n steps from frame `first` on.
      first: number of the frame that the first step starts in.
      grid: where its points lie.
    """

    steps: np.ndarray
    first: int
    grid: Grid


def file_digest(path: str | os.PathLike[str]) -> str:
    """The `content_digest` of a file.

    Raises:
      OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return content_digest(file)


def content_digest(file: BinaryIO) -> str:
    """A name for a file's content, 16 hex digits: of its length and both its ends.

    Raises:
      OSError: the file cannot be read.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    content = file.read(_DIGESTED)
    file.seek(max(0, size - _DIGESTED))
    content += file.read(_DIGESTED)
    return hashlib.sha256(size.to_bytes(8, "little") + content).hexdigest()[:16]


def cell_grid(rows: int, columns: int) -> Grid:
    """The grid of the centres of equal cells."""
    return Grid((-0.5, -0.5), (float(rows), float(columns)))


def corner_grid(rows: int, columns: int, height: int, width: int) -> Grid:
    """A grid whose outermost points are the centres of the outermost of height x width pixels."""
    steps = [(points - 1) / (side - 1) for points, side in ((rows, height), (columns, width))]
    return Grid((-0.5 * steps[0], -0.5 * steps[1]), (height * steps[0], width * steps[1]))


def to_cells(flow: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Averages dense flow over the equal cells of a frame.

    Args:
      flow: float32 [n, H, W, 2], in pixels.
      rows: of cells.
      columns: of cells.

    Returns:
      float32 [n, rows, columns, 2], in steps of their grid, `cell_grid`.
    """
    scale = np.array([columns / flow.shape[2], rows / flow.shape[1]], np.float32)
    shrinks = rows <= flow.shape[1] and columns <= flow.shape[2]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    cells = np.empty((len(flow), rows, columns, 2), np.float32)
    for step, out in zip(flow, cells, strict=True):
        out[:] = cv2.resize(step, (columns, rows), interpolation=how) * scale
    return cells


def quantise(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow in eight bits: the largest error is a 510th of its range.

    Args:
      flow: float32 [..., h, w, 2].

    Returns:
      Values uint8 of the same shape, and range float32 [..., 2, 2]: lowest, then unit; see above. Quantised flow, once
      it is read, gives the same values again.
    """
    lowest = flow.min((-3, -2))
    unit = ((flow.max((-3, -2)) - lowest) / np.float32(255)).astype(np.float32)
    divisor = np.where(unit > 0, unit, np.float32(1))[..., None, None, :]
    values = np.rint((flow - lowest[..., None, None, :]) / divisor)
    return np.clip(values, 0, 255).astype(np.uint8), np.stack([lowest, unit], -2)


def read_quantised(values: np.ndarray, span: np.ndarray) -> np.ndarray:
    """The flow, float32, that `quantise` made `values` and its range of."""
    lowest, unit = span[..., 0, :], span[..., 1, :]
    flow: np.ndarray = values.astype(np.float32) * unit[..., None, None, :] + lowest[..., None, None, :]
    return flow


def flow_bytes(steps: np.ndarray, grid: Grid, facts: VideoFacts, method: str) -> bytes:
    """The content of a file of flow.

    Args:
      steps: float32 [F - 1, 2, h, w, 2], see `StoredFlow`.
      grid: where its points lie.
      facts: of the video.
      method: how the flow was computed.

    Raises:
      ValueError: the flow is infinite or not a number.
    """
    if not np.isfinite(steps).all():
        raise ValueError("its flow is infinite or not a number")
    values, span = quantise(steps)
    lattice = np.array([grid.start, grid.span], np.float32).T
    start = zlib.crc32(lattice.tobytes())
    check = [zlib.crc32(one.tobytes(), zlib.crc32(two.tobytes(), start)) for one, two in zip(values, span, strict=True)]
    tensors = {"grid": lattice, "range": span, "check": np.array(check, np.uint32), "values": values}
    metadata = [_FORMAT, VERSION, facts.digest, method, facts.frames, facts.height, facts.width]
    # The library's own writer puts metadata in an order that differs from process to process.
    header: dict[str, Any] = {"__metadata__": dict(zip(FIELDS, map(str, metadata), strict=True))}
    place = 0
    for name, array in tensors.items():
        end = place + array.nbytes
        header[name] = {"dtype": _DTYPES[name], "shape": array.shape, "data_offsets": [place, end]}
        place = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in tensors.values())])


def write_flow(path: str | Path, steps: np.ndarray, grid: Grid, facts: VideoFacts, method: str) -> None:
    """Writes the file of a video's flow, whole or not at all; see `flow_bytes`.

    Raises:
      FileError: the file cannot be written, or the flow is infinite or not a number.
    """
    path = Path(path)
    try:
        content = flow_bytes(steps, grid, facts, method)
    except ValueError as error:
        raise FileError(path, f"was not written: {error}; give other config.flow.weights") from error
    with whole_file(path, "free space there, or set config.flow.path to another folder") as partial:
        partial.write_bytes(content)


def read_flow(
    source: str | Path | bytes, video: str | Path, facts: VideoFacts, first: int = 0, last: int | None = None
) -> StoredFlow:
    """Reads the flow from frame `first` of a video to frame `last`.

    Args:
      source: the path of the file, or the content of one, from the record of a video.
      video: the video it belongs to, for errors.
      facts: of that video. Flow from a record is compared by the number of frames alone: the video may have been
        encoded again.
      first: index of a frame.
      last: index of a frame, not before the first; None means the video's last. Only the flow between them is read.

    Raises:
      FileError: the file is missing, damaged, of an older version, or of a video with other facts.
    """
    last = facts.frames - 1 if last is None else last
    with _opened(source, video) as file:
        layout = _check(source, video, file, facts)
        shape = layout.values[1:]
        lattice = layout.read(file, "grid", 0, 2).reshape(2, 2)
        values = layout.read(file, "values", first, last).reshape(-1, *shape)
        span = layout.read(file, "range", first, last).reshape(-1, 2, 2, 2)
        check = layout.read(file, "check", first, last)
        start = zlib.crc32(lattice.tobytes())
        for number, (one, two) in enumerate(zip(values, span, strict=True)):
            if zlib.crc32(one.tobytes(), zlib.crc32(two.tobytes(), start)) != check[number]:
                raise ValueError(f"the checksum of step {first + number} is another")
    (top, height), (left, width) = lattice.tolist()
    return StoredFlow(read_quantised(values, span), first, Grid((top, left), (height, width)))


def has_flow(path: str | Path, video: str | Path, facts: VideoFacts, method: str) -> bool:
    """Whether there is a flow file of this video by this method; its values are not checked."""
    try:
        with _opened(path, video) as file:
            return _check(path, video, file, facts).metadata["method"] == method
    except FileError:
        return False


def grid_shape(source: str | Path | bytes, video: str | Path) -> tuple[int, int]:
    """How many rows and columns the flow in a file has.

    Raises:
      FileError: the file is missing or damaged, or of an older version.
    """
    with _opened(source, video) as file:
        _, _, rows, columns, _ = _layout(file).values
    return rows, columns


def _place(source: str | Path | bytes, video: str | Path) -> str:
    return f"the record of {video}" if isinstance(source, bytes) else str(source)


@contextlib.contextmanager
def _opened(source: str | Path | bytes, video: str | Path) -> Iterator[BinaryIO]:
    """Opens the file; in the block, errors in it become a FileError that names it and its video."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            yield file
    except FileNotFoundError as error:
        reason = (
            f"the flow of {video} is not there: `mgmae flow --config CONFIG --config.data.path=VIDEOS` computes it "
            "and lists videos that it cannot read (procedural videos get theirs when they are prepared)"
        )
        raise FileError(_place(source, video), reason) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(
            _place(source, video), f"the flow of {video} cannot be read (damaged or foreign? {reason}); {_AGAIN}"
        ) from error


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where the tensors of a file lie: `places` are offsets, `shapes` those of the tensors."""

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, int]

    @property
    def values(self) -> tuple[int, ...]:
        return self.shapes["values"]

    def read(self, file: BinaryIO, name: str, first: int, last: int) -> np.ndarray:
        """The rows of a tensor from `first` up to `last`, flat."""
        dtype = np.dtype({"U8": "u1", "F32": "<f4", "U32": "<u4"}[_DTYPES[name]])
        row = math.prod(self.shapes[name][1:]) * dtype.itemsize
        file.seek(self.places[name] + first * row)
        content = file.read((last - first) * row)
        if len(content) != (last - first) * row:
            raise ValueError("it ends early")
        return np.frombuffer(content, dtype)


def _layout(file: BinaryIO) -> _Layout:
    """Reads the head of a file, and checks it against the file's length.

    Raises:
      ValueError: it is something else, or an older version.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= _MAX_HEADER:
        raise ValueError("it is not a file of flow")
    try:
        header = json.loads(file.read(length))
        metadata, shapes, places, ends = _parts(header, 8 + length)
    except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"its head is damaged: {error!r:.100}") from error
    if sorted(ends.values())[-1] != file.seek(0, io.SEEK_END):
        raise ValueError("it is shorter or longer than its head says")
    if metadata["version"] != VERSION:
        raise ValueError(f"it is of version {metadata['version']:.20}, not {VERSION}")
    steps, *rest = shapes["values"]
    if len(rest) != 4 or (rest[0], rest[3]) != (2, 2) or min(rest) < 1:
        raise ValueError(f"values have the shape {shapes['values']}, not [F - 1, 2, h, w, 2]")
    wanted = {"range": (steps, 2, 2, 2), "grid": (2, 2), "check": (steps,)}
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise ValueError(f"{name} has the shape {shapes[name]}, not {shape}")
    return _Layout(metadata, shapes, places)


def _parts(
    header: Any, start: int
) -> tuple[dict[str, str], dict[str, tuple[int, ...]], dict[str, int], dict[str, int]]:
    """Metadata, shapes, places and ends of the tensors that a file's head tells, all of the right types."""
    metadata = {name: header["__metadata__"][name] for name in ("format", "version")}
    if metadata["format"] != _FORMAT:
        raise ValueError("it is not a file of flow")
    metadata |= {name: str(header["__metadata__"][name]) for name in FIELDS}
    shapes, places, ends = {}, {}, {}
    for name, dtype in _DTYPES.items():
        entry = header[name]
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        if entry["dtype"] != dtype or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError(f"{name} is not of type {dtype}")
        if end - begin != math.prod(shape) * _BYTES[dtype]:
            raise ValueError(f"{name} is shorter or longer than its shape {shape} says")
        shapes[name], places[name], ends[name] = shape, start + begin, start + end
    return metadata, shapes, places, ends


def _check(source: str | Path | bytes, video: str | Path, file: BinaryIO, facts: VideoFacts) -> _Layout:
    """The layout of a file that fits the video."""
    layout = _layout(file)
    found = layout.metadata
    stated = VideoFacts(int(found["frames"]), int(found["height"]), int(found["width"]), found["video"])
    if layout.values[0] != stated.frames - 1:
        raise ValueError(f"it has {layout.values[0]} steps for {stated.frames} frames")
    inside = isinstance(source, bytes)
    if stated.frames != facts.frames or (not inside and stated[:3] != facts[:3]):
        raise FileError(
            _place(source, video),
            f"is the flow of {stated.frames} frames of {stated.width}x{stated.height}, but {video} has {facts.frames} "
            f"of {facts.width}x{facts.height} (another video?); {_AGAIN}",
        )
    if not inside and facts.digest and stated.digest and facts.digest != stated.digest:
        raise FileError(
            _place(source, video),
            f"is the flow of a video whose file has the digest {stated.digest}, but that of {video} is {facts.digest} "
            f"(replaced since?); {_AGAIN}",
        )
    return layout
