"""The flow of a clip's crop from the stored flow of its video, eight bits a number, as it travels to the device.

Steps between neighbouring frames of the video are chained over the clip's stride on the grid of the whole frame, and
the part of the grid that the crop lies in is cut out. Nothing is resized here: `flow.packed` reads pixels or points of
the crop off the grid, inside the step. A crop of 224x224 then takes 39 kB where its flow in pixels takes 6 MB.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from mgmae_jax.data.augment import CropBox
from mgmae_jax.data.stored_flow import Grid, StoredFlow, quantise


class PackedClipFlow(NamedTuple):
    """The flow of one crop; see `flow.packed.PackedFlow`, which is the same on the device.

    Attributes:
      values: uint8 [P, g, g, 2], of the g x g points of the grid that the crop lies among.
      span: float32 [P, 2, 2]: the lowest number of each pair, and the unit of its values; x, then y, in steps of the
        grid.
      place: float32 [2, 2]: row, then column, of the crop's beginning among these points, and how many points it is
        high or wide: the index at fraction f of the crop is place[axis, 0] + place[axis, 1] * f.
    """

    values: np.ndarray
    span: np.ndarray
    place: np.ndarray


MARGIN = 4
"""Points of a crop's window beside those of the shorter side of the grid: two around the crop's ends, and two more that
it spans along the longer side, where flow is computed on frames rounded up by at most two points."""


def window_size(grid: tuple[int, int]) -> int:
    """How many rows and columns of a grid hold any crop whose sides are at most the frame's shorter one.

    Args:
      grid: rows and columns of the grid of a whole frame.
    """
    return min(grid) + MARGIN


def clip_flow(
    stored: StoredFlow,
    indices: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    box: CropBox,
    frame_size: tuple[int, int],
    window: int,
) -> PackedClipFlow:
    """The flow between frames of a clip, in its crop.

    Steps are chained: each point is carried along, and the next step is read where the point has arrived, bilinearly,
    or at the nearest point of the frame if it has left it.

    Args:
      stored: the flow from the clip's first frame to its last, or more.
      indices: int [T], the video's frames that form the clip, none smaller than the one before it.
      source: int [P], the frame of the clip that each flow starts in.
      target: int [P], the one in which it ends.
      box: the crop, in pixels of the video's frames; its sides are at most the frame's shorter one.
      frame_size: height and width of these frames.
      window: see `window_size`; that of the videos of a run, which must not differ.
    """
    start, span = _crop_grid(stored.grid, box, frame_size)
    rows, columns = (
        np.clip(math.floor(begin) + np.arange(window), 0, points - 1)
        for begin, points in zip(start, stored.steps.shape[2:4], strict=True)
    )
    flow = np.empty((len(source), window, window, 2), np.float32)
    for out, a, b in zip(flow, indices[source], indices[target], strict=True):
        a, b = int(a) - stored.first, int(b) - stored.first
        chained = chain(stored.steps[a:b, 0] if a <= b else stored.steps[b:a, 1][::-1])
        out[:] = chained[np.ix_(rows, columns)]
    place = [[begin - math.floor(begin), width] for begin, width in zip(start, span, strict=True)]
    return PackedClipFlow(*quantise(flow), np.array(place, np.float32))


def chain(steps: np.ndarray) -> np.ndarray:
    """Follows steps float32 [n, h, w, 2], in steps of the grid, one after the other from every point: [h, w, 2]."""
    if not len(steps):
        return np.zeros(steps.shape[1:], np.float32)
    start = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in steps.shape[2:0:-1])), -1)
    total = steps[0]
    for step in steps[1:]:
        total = total + cv2.remap(  # type: ignore[call-overload]  # the second map may be None, but the stubs forbid it
            step, start + total, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return total


def _crop_grid(grid: Grid, box: CropBox, frame_size: tuple[int, int]) -> Grid:
    """The same grid, by fractions of a crop."""
    edges = (box.y / frame_size[0], box.x / frame_size[1])
    sides = (box.height / frame_size[0], box.width / frame_size[1])
    starts = [start + span * edge for start, span, edge in zip(*grid, edges, strict=True)]
    spans = [span * side for span, side in zip(grid.span, sides, strict=True)]
    return Grid((starts[0], starts[1]), (spans[0], spans[1]))
