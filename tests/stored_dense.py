"""Flow in pixels as a file beside a video."""

from pathlib import Path

import numpy as np

from mgmae_jax.data.decode import open_video
from mgmae_jax.data.flow_places import flow_path, video_facts
from mgmae_jax.data.stored_flow import cell_grid, to_cells, write_flow


def store_dense(video: str | Path, both: np.ndarray, path: Path | None = None, frames: int | None = None) -> None:
    """Stores flow [2, F - 1, H, W, 2] of a video in cells of 4 pixels; `frames`: what the file says."""
    with open_video(str(video)) as opened:
        facts = video_facts(opened, str(video))
    cells = (-(-facts.height // 4), -(-facts.width // 4))
    steps = np.stack([to_cells(np.float32(way), *cells) for way in both], 1)
    facts = facts if frames is None else facts._replace(frames=frames)
    write_flow(path or flow_path(video), steps, cell_grid(*cells), facts, "true flow")
