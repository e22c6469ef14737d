"""Optical flow as colour."""

from __future__ import annotations

import matplotlib
import numpy as np

# The Middlebury wheel: corners red, yellow, green, cyan, blue, magenta, red, unevenly spaced for even perception
# (Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011).
_CORNER_POSITIONS = np.cumsum([0, 15, 6, 4, 11, 13, 6]) / 55.0
_CORNER_COLOURS = np.asarray(
    [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], dtype=np.float64
)


def flow_to_rgb(flow: np.ndarray, max_magnitude: float) -> np.ndarray:
    """Draws flow by the Middlebury colour wheel: hue is the direction, saturation the length.

    Right is red, down yellow, left cyan, up blue to violet; no motion is white.

    Args:
      flow: float `[..., H, W, 2]`, x then y in pixels.
      max_magnitude: length in pixels that gets the full colour, above 0; longer vectors are darkened by a quarter.

    Returns:
      uint8 `[..., H, W, 3]` RGB.
    """
    flow = np.asarray(flow, np.float64)
    length = np.linalg.norm(flow, axis=-1, keepdims=True) / max_magnitude
    position = np.arctan2(flow[..., 1], flow[..., 0]) / (2.0 * np.pi) % 1.0
    hue = np.stack([np.interp(position, _CORNER_POSITIONS, channel) for channel in _CORNER_COLOURS.T], axis=-1)
    # The slack keeps a vector of exactly the maximum on the bright side of rounding.
    colour = np.where(length <= 1.0 + 1e-6, 1.0 - np.minimum(length, 1.0) * (1.0 - hue), 0.75 * hue)
    return np.round(255.0 * colour).astype(np.uint8)


def component_to_rgb(component: np.ndarray, max_magnitude: float) -> np.ndarray:
    """Draws one component of flow: blue is negative, light grey zero, red positive.

    Args:
      component: float `[..., H, W]` in pixels.
      max_magnitude: size in pixels of the full colours, above 0; larger values are clipped.

    Returns:
      uint8 `[..., H, W, 3]` RGB.
    """
    position = 0.5 + 0.5 * np.clip(np.asarray(component, np.float64) / max_magnitude, -1.0, 1.0)
    return matplotlib.colormaps["coolwarm"](position, bytes=True)[..., :3]


def color_wheel(side: int) -> np.ndarray:
    """The legend: uint8 `[side, side, 3]`, each pixel coloured as flow that points to it from the centre."""
    offset = (np.arange(side) - (side - 1) / 2) / (side / 2)
    flow = np.stack(np.meshgrid(offset, offset), axis=-1)
    disc = np.linalg.norm(flow, axis=-1, keepdims=True) <= 1.0
    return np.where(disc, flow_to_rgb(flow, 1.0), np.uint8(255))
