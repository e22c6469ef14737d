"""Optical flow by classical methods on the host, one thread: OpenCV's Dual TV-L1 and DIS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np

HostMethod = Literal["tvl1", "dis"]
"""Dual TV-L1 (Zach, Pock, Bischof 2007), and dense inverse search (Kroeger et al. 2016), OpenCV's "medium" preset."""
MIN_SIDE = 12
"""Smallest side of a frame in pixels: DIS matches patches on smaller copies of it."""


def host_flow(
    frames: np.ndarray,
    source: Sequence[int] | np.ndarray,
    target: Sequence[int] | np.ndarray,
    method: HostMethod,
    *,
    fast: bool = False,
) -> np.ndarray:
    """Computes the flow between pairs of frames.

    Args:
      frames: uint8 [T, H, W, 3], RGB; H and W at least `MIN_SIDE`.
      source: [P], the frame in which the flow of each pair starts.
      target: [P], the frame in which it ends.
      method: "dis" takes about a fifteenth of the time of fast TV-L1.
      fast: of TV-L1 alone: instead of OpenCV's defaults, fewer iterations and wider steps between scales: about eighty
        times faster, better on large motion, slightly worse on small.

    Returns:
      float32 [P, H, W, 2]: x, y in pixels of the source frame, so that target(p + flow(p)) looks like source(p).
    """
    cv2.setNumThreads(0)  # Clips are already processed in parallel, one in each worker process.
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    between = _dis() if method == "dis" else _tvl1(fast)
    return np.stack([between(grey[int(a)], grey[int(b)]) for a, b in zip(source, target, strict=True)])


def _dis() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    # A pair starts from zero flow, whatever the pair before it had.
    calc = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc
    return lambda source, target: calc(source, target, None)  # type: ignore[call-overload]  # the stubs require a flow


def _tvl1(fast: bool) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    create = cv2.optflow.DualTVL1OpticalFlow.create
    # End-point error in pixels of OpenCV's defaults and of these: RubberWhale 0.156, 0.215; FlyingChairs 3 1.62, 1.86;
    # FlyingChairs 5 (large motion) 14.99, 9.97; Sintel alley_2 24 0.470, 0.491. Halving the image from scale to scale
    # reaches larger motion than the default 0.8 with the same number of scales.
    quick = create(scaleStep=0.5, warps=2, outerIterations=1, innnerIterations=10, medianFiltering=3)
    calc = (quick if fast else create()).calc
    return lambda source, target: calc(source, target, None)  # type: ignore[call-overload]  # as for DIS
