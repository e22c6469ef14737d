"""Two flows of one clip and the resulting masks, side by side; no pixel of the clip itself is shown."""

from __future__ import annotations

import numpy as np

from mgmae_jax.show.flow_color import flow_to_rgb
from mgmae_jax.show.panels import Row, flow_scale
from mgmae_jax.show.strip import pick_columns, row_strip

BOTH, FIRST, SECOND, NEITHER = (34, 34, 34), (214, 69, 35), (38, 110, 190), (238, 238, 234)
_CELL = 72


def agreement_strip(
    names: tuple[str, str],
    flows: tuple[np.ndarray, np.ndarray],
    tokens: tuple[np.ndarray, np.ndarray],
    *,
    base: int,
    patch: int,
    tubelet: int,
    caption: str,
) -> np.ndarray:
    """Draws two flows, and which tokens are visible by both, by the first only, by the second only.

    Args:
      names: the names of the two ways of computing flow.
      flows: both flows, float32 `[T - 1, H, W, 2]`, for the frames other than the base frame, in order.
      tokens: for both, bool `[t, h, w]`, whether each token is visible.
      base: index of the base frame.
      patch: side of a token's cube in pixels.
      tubelet: its length in frames.
      caption: the beginning of the caption, which continues with the colours.

    Returns:
      uint8 `[rows, columns, 3]` RGB.
    """
    scale = flow_scale(np.concatenate([flow.reshape(-1, 2) for flow in flows]))
    rows = {}
    for key, name, flow in zip(("flow", "other"), names, flows, strict=True):  # the first gets the colour wheel
        length = np.linalg.norm(flow, axis=-1, keepdims=True)
        pictures = flow_to_rgb(flow * (scale / np.maximum(length, scale)), scale)
        rows[key] = Row(name, f"flow, rim {scale:.1f} px", np.insert(pictures, base, 255, axis=0))
    first, second = tokens
    colours = np.array([NEITHER, SECOND, FIRST, BOTH], np.uint8)[2 * first.astype(int) + second]
    frames = colours.repeat(tubelet, axis=0).repeat(patch, axis=1).repeat(patch, axis=2)
    rows["tokens"] = Row("visible tokens", "both, one, other", frames)
    caption += f" Tokens: black by both, red only by {names[0]}, blue only by {names[1]}."
    return row_strip(rows, pick_columns(len(frames), base, 8), base, caption=caption, cell=_CELL)
