"""Optical flow stored in a file beside each video, and read with the frames, the stride and the crop of a clip.

The file of `a.mp4` is `a.mp4.flow.npz`, with uncompressed members, so that only the frames of a clip are read:

- flow: float16 [2, F - 1, h, w, 2] of F frames: row 0 from frame j to j + 1, on frame j's pixels; row 1 from j + 1 back
  to j, on frame j + 1's. x then y, in pixels of the decoded frames. h x w cells divide the frame evenly; a value
  belongs to its cell's centre.
- frame_size: int32 [2], height and width of the frames in pixels.
- frames: int32 [], F.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
import zipfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from mgmae_jax.data.augment import CropBox
from mgmae_jax.errors import FileError
from mgmae_jax.runtime.files import whole_file

CELL = 4
"""Approximate side of a cell in pixels: if it does not divide a frame's side, cells are a little smaller."""
SUFFIX = ".flow.npz"
_AGAIN = "`mgmae flow --config CONFIG --config.data.path=VIDEOS` computes it again"
_MEMBERS = {"flow.npy": "<f2", "frame_size.npy": "<i4", "frames.npy": "<i4"}
# What comes before an array's values in NumPy's format 1.0.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(...)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n", re.S
)
_MAX_HEADER = 1024  # bytes


@dataclasses.dataclass(frozen=True)
class StoredFlow:
    """The flow of a stretch of a video.

    Attributes:
      steps: float32 [2, n, h, w, 2], as in the file, for the n steps from frame `first` on.
      first: number of the frame that the first step starts in.
      frame_size: height and width of the frames in pixels.
    """

    steps: np.ndarray
    first: int
    frame_size: tuple[int, int]


def flow_path(video: str | Path, root: str | Path = "", folder: str | Path = "") -> Path:
    """The path of a video's stored flow.

    Args:
      video: the video's file.
      root: the folder of the videos.
      folder: where flow is stored, mirroring `root` (or the whole path of a video outside it); "" means beside the
        video.
    """
    beside = Path(f"{video}{SUFFIX}")
    if not folder:
        return beside
    absolute, root = Path(os.path.abspath(beside)), Path(os.path.abspath(root))
    return Path(folder) / absolute.relative_to(root if absolute.is_relative_to(root) else absolute.anchor)


def cell_grid(height: int, width: int) -> tuple[int, int]:
    """The numbers of cells, h and w, that a frame of that size in pixels is divided into."""
    return -(-height // CELL), -(-width // CELL)


def to_cells(flow: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """Averages dense flow over the cells of a frame.

    Args:
      flow: float32 [n, H', W', 2], (x, y) in its own pixels, of frames resized from `frame_size` or not.
      frame_size: height and width of the video's frames in pixels.

    Returns:
      float32 [n, h, w, 2], in pixels of frames of that size.
    """
    rows, columns = cell_grid(*frame_size)
    scale = np.array([frame_size[1] / flow.shape[2], frame_size[0] / flow.shape[1]], np.float32)
    shrinks = rows <= flow.shape[1] and columns <= flow.shape[2]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    cells = np.empty((len(flow), rows, columns, 2), np.float32)
    for step, out in zip(flow, cells, strict=True):
        out[:] = cv2.resize(step, (columns, rows), interpolation=how) * scale
    return cells


def write_flow(path: str | Path, flow: np.ndarray, frame_size: tuple[int, int]) -> None:
    """Writes the flow of a video, whole or not at all.

    Args:
      path: the file; its folder is made if absent.
      flow: [2, F - 1, h, w, 2], see above, in pixels; stored in half precision.
      frame_size: height and width of the video's frames in pixels.

    Raises:
      FileError: the file cannot be written, or the flow is not finite in half precision (65504 pixels and less).
    """
    path = Path(path)
    with np.errstate(over="ignore"):
        half = flow.astype(np.float16)
    if not np.isfinite(half).all():
        raise FileError(path, "was not written: its flow is infinite or not a number; give other config.flow.weights")
    remedy = "free space there, or set config.flow.path to another folder"
    with whole_file(path, remedy) as partial, partial.open("wb") as file:
        np.savez(file, flow=half, frame_size=np.array(frame_size, np.int32), frames=np.int32(half.shape[1] + 1))


def read_flow(
    path: str | Path,
    video: str | Path,
    *,
    frames: int,
    frame_size: tuple[int, int],
    first: int = 0,
    last: int | None = None,
) -> StoredFlow:
    """Reads the flow from frame `first` of a video to frame `last`.

    Args:
      path: the file.
      video: the video it belongs to, for errors.
      frames: the number of frames of the video.
      frame_size: height and width of its frames in pixels.
      first: index of a frame.
      last: index of a frame, not before the first; None means the video's last. Only the flow between them is read.

    Raises:
      FileError: the file is missing, damaged, or of a video with other frames.
    """
    last = frames - 1 if last is None else last
    with _opened(path, video) as file:
        shape, offset = _check(path, video, file, frames, frame_size)
        steps = np.empty((2, last - first, *shape[2:]), np.float16)
        for row, part in enumerate(steps):
            file.seek(offset + (row * shape[1] + first) * math.prod(shape[2:]) * part.itemsize)
            if file.readinto(part.reshape(-1).view(np.uint8)) != part.nbytes:
                raise ValueError("it ends early")
        steps = steps.astype(np.float32)
        if not np.isfinite(steps).all():
            raise ValueError("it holds values that are not finite")
    return StoredFlow(steps, first, frame_size)


def has_flow(path: str | Path, video: str | Path, *, frames: int, frame_size: tuple[int, int]) -> bool:
    """Whether there is a flow file that fits a video with this many frames of that size; its values are not checked."""
    try:
        with _opened(path, video) as file:
            _check(path, video, file, frames, frame_size)
    except FileError:
        return False
    return True


def clip_flow(
    stored: StoredFlow,
    indices: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    box: CropBox,
    size: int,
) -> np.ndarray:
    """The flow between frames of a clip, cut and resized as its frames are.

    Steps between neighbouring frames of the video are chained: each point is carried along, and the next step is read
    where the point has arrived, bilinearly (with OpenCV, to a 32nd of a cell), or at the nearest point of the frame if
    it has left it.

    Args:
      stored: the flow from the clip's first frame to its last, or more.
      indices: int [T], the video's frames that form the clip, none smaller than the one before it.
      source: int [P], the frame of the clip that each flow starts in.
      target: int [P], the one in which it ends.
      box: the crop, in pixels of the video's frames.
      size: the side that the crop is resized to, in pixels.

    Returns:
      float32 [P, size, size, 2], x then y in pixels of the resized crop; zero between repetitions of one frame.
    """
    rows, columns = stored.steps.shape[2:4]
    cells = np.array([columns / stored.frame_size[1], rows / stored.frame_size[0]], np.float32)
    # Centres of the crop's pixels, in cells: cell i covers i - 0.5 to i + 0.5.
    x = (box.x + (np.arange(size) + 0.5) * box.width / size) * cells[0] - 0.5
    y = (box.y + (np.arange(size) + 0.5) * box.height / size) * cells[1] - 0.5
    # Converted to fixed point once for all pairs; OpenCV would do it for each.
    where = cv2.convertMaps(*np.meshgrid(np.float32(x), np.float32(y)), cv2.CV_16SC2)
    to_crop = np.array([size / box.width, size / box.height], np.float32) / cells
    steps = stored.steps * cells
    flow = np.empty((len(source), size, size, 2), np.float32)
    for out, a, b in zip(flow, indices[source], indices[target], strict=True):
        a, b = int(a) - stored.first, int(b) - stored.first
        chained = _chain(steps[0, a:b] if a <= b else steps[1, b:a][::-1])
        cv2.remap(chained * to_crop, *where, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE)
    return flow


def _chain(steps: np.ndarray) -> np.ndarray:
    """Follows steps [n, h, w, 2], in cells, one after the other from every cell's centre: [h, w, 2]."""
    if not len(steps):
        return np.zeros(steps.shape[1:], np.float32)
    start = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in steps.shape[2:0:-1])), -1)
    total = steps[0]
    for step in steps[1:]:
        total = total + cv2.remap(  # type: ignore[call-overload]  # the second map may be None, but the stubs forbid it
            step, start + total, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return total


@contextlib.contextmanager
def _opened(path: str | Path, video: str | Path) -> Iterator[BufferedReader]:
    """Opens the file; in the block, errors in it become a FileError that names it and its video."""
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        reason = (
            f"the flow of {video} is not there: `mgmae flow --config CONFIG --config.data.path=VIDEOS` computes it "
            "and lists videos that it cannot read (procedural videos get theirs when they are prepared)"
        )
        raise FileError(path, reason) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(path, f"the flow of {video} cannot be read (damaged? {reason}); {_AGAIN}") from error


def _check(
    path: str | Path, video: str | Path, file: BinaryIO, frames: int, frame_size: tuple[int, int]
) -> tuple[tuple[int, ...], int]:
    """Returns the shape of "flow" and where its values begin, after checking that they fit the video."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
    if set(members) != set(_MEMBERS):
        raise ValueError(f"it holds {sorted(members)[:5]}, not {sorted(_MEMBERS)}")
    places = {name: _locate(file, members[name], dtype) for name, dtype in _MEMBERS.items()}
    (shape, offset), (size_shape, size_offset), (frames_shape, frames_offset) = places.values()
    if len(shape) != 5 or shape[0] != 2 or shape[4] != 2 or min(shape[2:4]) < 1:
        raise ValueError(f"flow has the shape {shape}, not [2, F - 1, h, w, 2]")
    if size_shape != (2,) or frames_shape != ():
        raise ValueError("frame_size or frames has another shape")
    file.seek(size_offset)
    height, width = np.frombuffer(file.read(8), "<i4").tolist()
    file.seek(frames_offset)
    (count,) = np.frombuffer(file.read(4), "<i4").tolist()
    if shape[1] != count - 1:
        raise ValueError(f"flow has {shape[1]} steps for {count} frames")
    if (count, height, width) != (frames, *frame_size):
        raise FileError(
            path,
            f"is the flow of {count} frames of {width}x{height}, but {video} has {frames} of "
            f"{frame_size[1]}x{frame_size[0]} (another video?); {_AGAIN}",
        )
    return shape, offset


def _locate(file: BinaryIO, member: zipfile.ZipInfo, dtype: str) -> tuple[tuple[int, ...], int]:
    """Returns the shape of an array in the file and where its values begin, after checking its type."""
    # The local header of a member has fields of variable length that the archive's directory does not give.
    file.seek(member.header_offset + 26)
    start = member.header_offset + 30 + int(np.frombuffer(file.read(4), "<u2").sum())
    file.seek(start)
    header = _HEADER.match(file.read(_MAX_HEADER))
    if member.compress_type != zipfile.ZIP_STORED or header is None:
        raise ValueError(f"{member.filename} is compressed, or not an array in NumPy's format 1.0")
    found, shape = header[1].decode(), tuple(int(length) for length in header[2].replace(b",", b" ").split())
    if found != dtype:
        raise ValueError(f"{member.filename} is of type {found}, not {dtype}")
    offset = start + header.end()
    if member.file_size != header.end() + math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"{member.filename} is shorter or longer than its shape {shape} says")
    return shape, offset
