"""Optical flow by Dual TV-L1 (Zach, Pock, Bischof 2007), on the host: OpenCV's, one thread."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def tvl1_flow(
    frames: np.ndarray,
    source: Sequence[int] | np.ndarray,
    target: Sequence[int] | np.ndarray,
    *,
    fast: bool = False,
) -> np.ndarray:
    """Computes the flow between pairs of frames.

    Args:
      frames: uint8 [T, H, W, 3], RGB; H and W at least 8.
      source: [P], the frame in which the flow of each pair starts.
      target: [P], the frame in which it ends.
      fast: instead of OpenCV's defaults, fewer iterations and wider steps between scales: about eighty times
        faster, better on large motion, slightly worse on small.

    Returns:
      float32 [P, H, W, 2]: x, y in pixels of the source frame, so that target(p + flow(p)) looks like source(p).
    """
    cv2.setNumThreads(0)  # Clips are already processed in parallel, one in each worker process.
    method = _fast() if fast else cv2.optflow.DualTVL1OpticalFlow.create()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack([
        method.calc(grey[int(a)], grey[int(b)], None)  # type: ignore[call-overload]  # the stubs require a flow
        for a, b in zip(source, target, strict=True)
    ])  # fmt: skip


def _fast() -> cv2.optflow.DualTVL1OpticalFlow:
    # End-point error in pixels of OpenCV's defaults and of these: RubberWhale 0.156, 0.215; FlyingChairs 3 1.62, 1.86;
    # FlyingChairs 5 (large motion) 14.99, 9.97; Sintel alley_2 24 0.470, 0.491. Halving the image from scale to scale
    # reaches larger motion than the default 0.8 with the same number of scales.
    return cv2.optflow.DualTVL1OpticalFlow.create(
        scaleStep=0.5, warps=2, outerIterations=1, innnerIterations=10, medianFiltering=3
    )
