import dataclasses
import itertools
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import FlowSpec, pretrain_batches
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.data.stored_flow import cell_grid, flow_path, write_flow
from mgmae_jax.errors import MgmaeError
from mgmae_jax.ops.pairs import neighbour_pairs

CLIP = ClipSpec(frames=4, stride=3, size=32)
HEIGHT, WIDTH = 48, 64  # of the videos
STORED = FlowSpec(base=2, source="stored")


def write_constant(video: str, frames: int, path: Path | None = None) -> None:
    """Two pixels to the right and one down, a frame, and as much back."""
    flow = np.full((2, frames - 1, *cell_grid(HEIGHT, WIDTH), 2), np.float32([2, 1]))
    flow[1] *= -1
    write_flow(path or flow_path(video), flow, (HEIGHT, WIDTH))


@pytest.fixture
def videos(make_video) -> VideoList:
    for name, frames in (("a/1.mp4", 12), ("a/2.mp4", 16), ("b/3.mp4", 9)):
        write_constant(str(make_video(name, frames)), frames)
    return read_source(make_video("a/1.mp4", 12).parents[1])


def read(
    videos: VideoList, count: int, *, flow: FlowSpec | None = STORED, workers: int = 0, views: int = 2
) -> list[dict]:
    def no_bad(path: str, reason: str) -> None:
        raise AssertionError(f"{path}: {reason}")

    spec = BatchSpec(batch_size=3, views=views, seed=0, workers=workers)
    with pretrain_batches(videos, CLIP, spec, start_step=0, flow=flow, on_bad=no_bad) as batches:
        return list(itertools.islice(batches, count))


def test_workers_do_not_change_the_flow(videos):
    alone, together = read(videos, 2), read(videos, 2, workers=1)
    for one, other in zip(alone, together, strict=True):
        assert one["flow"].shape == (6, 3, 32, 32, 2)
        assert one["flow"].dtype == np.float32
        np.testing.assert_array_equal(one["flow"], other["flow"])
        np.testing.assert_array_equal(one["clip"], other["clip"])
    assert multiprocessing.active_children() == []


def test_the_clips_are_those_without_flow(videos):
    (stored,), (without,) = read(videos, 1), read(videos, 1, flow=None)
    np.testing.assert_array_equal(stored["clip"], without["clip"])


@pytest.mark.parametrize("direction", ["to_base", "from_base", "to_earlier"])
def test_flow_follows_stride_crop_and_direction(videos, direction):
    """Of the same velocity in every crop: its sides tell the scale, and both components the same one of few sides."""
    flow = read(videos, 1, flow=dataclasses.replace(STORED, direction=direction))[0]["flow"]
    source, target = neighbour_pairs(4, 2, direction)
    # Clips are shorter than the 9 frames of one video, where the last frame is repeated: no motion, or 3 frames of it.
    sides = np.array([48, 42, 36, 32, 31])  # of crops
    for clip in flow:
        for pair, way in zip(clip, target - source, strict=True):
            np.testing.assert_allclose(pair, np.broadcast_to(pair[0, 0], pair.shape), atol=1e-4)
            x, y = pair[0, 0] * way
            assert (x, y) == (0, 0) or (
                np.isclose(x, 3 * 2 * 32 / sides).any() and np.isclose(y, 3 * 1 * 32 / sides).any()
            )
    assert flow.any((1, 2, 3, 4)).all()


def test_without_a_base_frame_both_directions_come(videos):
    both = read(videos, 1, flow=FlowSpec(None, source="stored"))[0]["flow"]
    assert both.shape == (6, 2, 3, 32, 32, 2)
    np.testing.assert_allclose(both[:, 0], -both[:, 1], atol=1e-5)
    np.testing.assert_array_equal(both[:, 0, :2], read(videos, 1)[0]["flow"][:, :2])  # before the base frame
    np.testing.assert_array_equal(both[:, 1, 2:], read(videos, 1)[0]["flow"][:, 2:])  # after it


def test_flow_may_lie_in_a_folder_of_its_own(videos, tmp_path):
    (beside,) = read(videos, 1)
    for path in videos.paths:
        own = flow_path(path, tmp_path, tmp_path / "flow")
        own.parent.mkdir(parents=True, exist_ok=True)
        flow_path(path).rename(own)
    spec = dataclasses.replace(STORED, root=str(tmp_path), folder=str(tmp_path / "flow"))
    np.testing.assert_array_equal(read(videos, 1, flow=spec)[0]["flow"], beside["flow"])


@pytest.mark.parametrize("workers", [0, 1])
def test_missing_flow_ends_the_run_and_is_no_bad_video(videos, workers):
    flow_path(videos.paths[1]).unlink()
    with pytest.raises(MgmaeError, match=r"2\.mp4\.flow\.npz: the flow of .*2\.mp4 is not there: `mgmae flow"):
        read(videos, 1, workers=workers)


def test_flow_of_another_video_ends_the_run(videos):
    write_constant(videos.paths[1], 15)
    with pytest.raises(MgmaeError, match=r"is the flow of 15 frames of 64x48, but .*2\.mp4 has 16 of 64x48"):
        read(videos, 1)
