import dataclasses
import itertools
import multiprocessing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.encode import Encoding
from mgmae_jax.data.flow_places import flow_path, flow_place, video_facts
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import FlowSpec, pretrain_batches
from mgmae_jax.data.record_writer import record_values
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.data.stored_clips import MARGIN
from mgmae_jax.data.stored_flow import cell_grid, write_flow
from mgmae_jax.datasets.listed import own_split
from mgmae_jax.datasets.prepare import in_processes, prepare
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.flow.packed import given_flow, one_way, read_packed
from mgmae_jax.ops.pairs import neighbour_pairs
from tests.data.test_frame_folders import write_frames
from tests.stored_dense import store_dense

CLIP = ClipSpec(frames=4, stride=3, size=32)
HEIGHT, WIDTH = 48, 64  # of the videos
WINDOW = 12 + MARGIN
STORED = FlowSpec(base=2, source="stored")


def write_constant(video: str, frames: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """Two pixels to the right and one down, a frame, and as much back."""
    flow = np.full((2, frames - 1, *size, 2), np.float32([2, 1]))
    flow[1] *= -1
    store_dense(video, flow, frames=frames)


unpack = jax.jit(jax.vmap(lambda flow: read_packed(flow, 32, 32)))


def pixels(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The flow of a batch's clips in their pixels, [n, P, S, S, 2]."""
    return np.asarray(unpack(given_flow(batch)))


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
        assert one["flow"].shape == (6, 3, WINDOW, WINDOW, 2)  # the shorter side is 12 cells of 4 pixels
        assert one["flow"].dtype == np.uint8
        assert one.keys() == other.keys() == {"clip", "flow", "flow_span", "flow_place"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    assert multiprocessing.active_children() == []


def test_the_clips_are_those_without_flow(videos):
    (stored,), (without,) = read(videos, 1), read(videos, 1, flow=None)
    np.testing.assert_array_equal(stored["clip"], without["clip"])


@pytest.mark.parametrize("direction", ["to_base", "from_base", "to_earlier"])
def test_flow_follows_stride_crop_and_direction(videos, direction):
    """Of the same velocity in every crop: its sides tell the scale, and both components the same one of few sides."""
    flow = pixels(read(videos, 1, flow=dataclasses.replace(STORED, direction=direction))[0])
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
    (batch,) = read(videos, 1, flow=FlowSpec(None, source="stored"))
    assert batch["flow"].shape == (6, 2, 3, WINDOW, WINDOW, 2)
    given = given_flow(batch)
    ways = [
        np.asarray(unpack(jax.vmap(lambda flow, way=way: one_way(flow, jnp.full(3, way)))(given)))
        for way in (True, False)
    ]
    np.testing.assert_allclose(ways[0], -ways[1], atol=1e-5)
    one = pixels(read(videos, 1)[0])
    np.testing.assert_array_equal(ways[0][:, :2], one[:, :2])  # before the base frame
    np.testing.assert_array_equal(ways[1][:, 2:], one[:, 2:])  # after it


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
    with pytest.raises(MgmaeError, match=r"2\.mp4\.flow\.safetensors: the flow of .*2\.mp4 is not there: `mgmae flow"):
        read(videos, 1, workers=workers)


def test_flow_of_another_video_ends_the_run(videos):
    write_constant(videos.paths[1], 15)
    with pytest.raises(MgmaeError, match=r"is the flow of 15 frames of 64x48, but .*2\.mp4 has 16 of 64x48"):
        read(videos, 1)


def test_a_video_that_was_replaced_since_ends_the_run(videos, make_video):
    make_video("a/2.mp4", 16, options={"g": "3"})
    with pytest.raises(MgmaeError, match=r"is the flow of a video whose file has the digest \w+, but that of .*2\.mp4"):
        read(videos, 1)


def test_videos_must_have_flow_of_one_size(videos):
    path = flow_path(videos.paths[1])
    write_constant(videos.paths[1], 16)
    with open_video(videos.paths[1]) as video:
        facts = video_facts(video, videos.paths[1])
    write_flow(path, np.zeros((15, 2, 6, 8, 2), np.float32), cell_grid(6, 8), facts, "true flow")
    with pytest.raises(MgmaeError, match=r"2\.mp4: has flow of 6 points on the shorter side, and the first .* of 12"):
        read(videos, 1)


def test_the_first_videos_may_have_no_flow_but_not_all(videos):
    flow_path(videos.paths[0]).rename(f"{videos.paths[0]}.kept")
    spec = BatchSpec(batch_size=3, views=1, seed=0, workers=0)
    pretrain_batches(videos, CLIP, spec, start_step=0, flow=STORED, on_bad=print).close()
    for path in videos.paths[1:]:
        flow_path(path).unlink()
    with pytest.raises(FileError, match=r"1\.mp4\.flow\.safetensors: the flow of .*1\.mp4 is not there"):
        pretrain_batches(videos, CLIP, spec, start_step=0, flow=STORED, on_bad=print)


def test_records_bring_the_flow_that_lay_beside_their_videos(videos, tmp_path):
    beside = read(videos, 1)[0]
    splits = {"train": own_split(videos, "videos")}
    prepare(splits, tmp_path / "records", "videos", None, in_processes(1), lambda done, total: None)
    in_records = read_source(tmp_path / "records")
    assert [name.rpartition("/")[2] for name in in_records.paths] == ["1.mp4", "2.mp4", "3.mp4"]
    for path in videos.paths:
        flow_path(path).unlink()
    found = read(in_records, 1)[0]
    for name in beside:
        np.testing.assert_array_equal(found[name], beside[name])


def test_records_of_records_keep_their_flow(videos, tmp_path):
    place = videos
    for name, encoding in (("one", None), ("two", None), ("three", Encoding(32, 4))):
        splits = {"train": own_split(place, name)}
        prepare(splits, tmp_path / name, "videos", encoding, in_processes(1), lambda done, total: None)
        place = read_source(tmp_path / name)
    assert all(place.opener.record(name).values["flow"] == flow_path(path).read_bytes()
               for name, path in zip(place.paths, videos.paths, strict=True))  # fmt: skip
    # A width of 42 pixels instead of 42.7 moves the crop a little.
    np.testing.assert_allclose(pixels(read(place, 1)[0]), pixels(read(videos, 1)[0]), atol=0.1)


def test_records_take_the_flow_of_listed_folders_of_frames(tmp_path):
    frames = write_frames(tmp_path / "a", 9, size=(HEIGHT, WIDTH))
    write_constant(str(frames), 9)
    (tmp_path / "list.csv").write_text("a 1 9\n")
    videos = read_source(tmp_path / "list.csv")
    flow_path(frames).rename(flow_path(videos.paths[0]))
    splits = {"train": own_split(videos, "list")}
    prepare(splits, tmp_path / "records", "videos", None, in_processes(1), lambda done, total: None)
    records = read_source(tmp_path / "records")
    assert records.opener.record(records.paths[0]).values["flow"] == flow_path(videos.paths[0]).read_bytes()


def test_damaged_flow_is_not_prepared(videos):
    path = flow_path(videos.paths[0])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileError, match=r"1\.mp4\.flow\.safetensors: the flow of .*1\.mp4 cannot be read .*mgmae flow"):
        record_values(videos.paths[0], "1.mp4", -1, None)


def records_of(make_video, tmp_path, name: str, options: dict[str, str]) -> VideoList:
    """Records of one video, which is called as in any other: a.mp4."""
    make_video(f"{name}/a.mp4", 12, options=options)
    splits = {"train": own_split(read_source(tmp_path / name), name)}
    prepare(splits, tmp_path / f"{name}_records", "videos", None, in_processes(1), lambda done, total: None)
    return read_source(tmp_path / f"{name}_records")


def test_flow_of_another_record_of_the_same_name_ends_the_run(make_video, tmp_path):
    one, two = (records_of(make_video, tmp_path, name, {"g": g}) for name, g in (("one", "3"), ("two", "6")))
    spec = dataclasses.replace(STORED, folder=str(tmp_path / "flow"))
    steps, grid = np.zeros((11, 2, 12, 16, 2), np.float32), cell_grid(12, 16)
    with open_video(one.item(0)) as video:
        facts = video_facts(video, one.item(0))
    write_flow(flow_place(one.item(0), folder=spec.folder), steps, grid, facts, "true flow")
    assert read(one, 1, flow=spec)
    with pytest.raises(
        MgmaeError, match=r"is the flow of a video whose file has the digest \w+, but that of a\.mp4 is"
    ):
        read(two, 1, flow=spec)
    write_flow(flow_place(one.item(0), folder=spec.folder), steps, grid, facts._replace(digest=""), "true flow")
    assert read(two, 1, flow=spec)  # stored before records had a digest
