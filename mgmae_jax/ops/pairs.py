"""Which pairs of frames the masks need flow for; numpy only, so that data workers and traced code share it."""

from typing import Any, Literal

import numpy as np

Direction = Literal["to_base", "from_base", "to_earlier"]


def neighbour_pairs(num_frames: int, base: Any, direction: Direction = "to_base") -> tuple[Any, Any]:
    """The pairs of neighbouring frames (j, j + 1), in time order, each as (source, target) of the requested flow.

    Args:
      num_frames: T.
      base: index of the base frame: an int, or a traced int32 scalar.
      direction: "to_base", the paper's Eq. 1 (v_{i -> i+1} before the base, v_{i -> i-1} after it), for backward
        warping; "from_base", the opposite, for forward warping; "to_earlier", always v_{j+1 -> j}, which is what the
        released code takes for backward warping.

    Returns:
      Two int32 arrays [T - 1].
    """
    earlier = np.arange(num_frames - 1, dtype=np.int32)
    # 1 where the source is the later frame of the pair.
    if direction == "to_earlier":
        later = np.ones_like(earlier)
    elif direction == "to_base":
        later = (earlier >= base).astype(np.int32)
    elif direction == "from_base":
        later = (earlier < base).astype(np.int32)
    else:
        raise ValueError(f"direction={direction!r}: give one of to_base, from_base, to_earlier")
    return earlier + later, earlier + np.int32(1) - later


def adjacent_pairs(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """All flows between neighbours, for a base frame that is not known yet: (source, target), int32 [2, T - 1].

    Row 0 is v_{j -> j+1}, row 1 is v_{j+1 -> j}.
    """
    earlier = np.arange(num_frames - 1, dtype=np.int32)
    return np.stack([earlier, earlier + 1]), np.stack([earlier + 1, earlier])
