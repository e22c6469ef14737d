"""Still videos: the appearance of the moving ones, and no motion."""

import json
from pathlib import Path

import numpy as np
import pytest

from mgmae_jax.data.decode import open_video
from mgmae_jax.data.flow_places import flow_path, video_facts
from mgmae_jax.data.stored_flow import read_flow
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.datasets.motion_shapes import CLASSES
from mgmae_jax.datasets.motion_shapes.scene import draw, sample_scene, scene_flow

SIZE, FRAMES = (48, 64), 8


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
def test_every_frame_is_the_pivot_frame_of_the_moving_video(label: int):
    moving, still = (sample_scene(1, 4, size=SIZE, frames=FRAMES, label=label, still=still) for still in (False, True))
    frames = draw(still)
    np.testing.assert_array_equal(frames, np.broadcast_to(draw(moving)[moving.pivot], frames.shape))
    assert np.abs(scene_flow(still)).max() < 1e-5
    assert np.abs(scene_flow(moving)).max() > 0.1


def test_they_have_a_folder_of_their_own_and_flow_of_zero(tmp_path: Path):
    moving, still = (
        motion_shapes.prepare(tmp_path, videos=2, seed=1, size=SIZE, frames=FRAMES, flow=True, still=still)
        for still in (False, True)
    )
    assert moving.parent != still.parent
    assert moving.read_text() == still.read_text()
    assert "still" not in json.loads((moving.parent / "manifest.json").read_text())  # as before there were still ones
    for path in still.parent.rglob("*.mp4"):
        with open_video(path) as video:
            stored = read_flow(flow_path(path), path, video_facts(video, path))
            frames = video.decode(range(FRAMES))
        assert np.abs(stored.steps).max() < 1e-5
        assert np.abs(frames.astype(int) - frames[:1]).mean() < 2  # what the codec adds
