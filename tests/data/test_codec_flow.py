"""Flow from motion vectors, of videos whose scene moves by a known velocity."""

import itertools
import multiprocessing

import av
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.codec_flow import CELLS, WINDOW, decode_with_flow
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import FlowSpec, pretrain_batches
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.datasets.listed import own_split
from mgmae_jax.datasets.prepare import in_processes, prepare
from mgmae_jax.errors import FileError, MgmaeError, VideoError
from mgmae_jax.flow.packed import given_flow, one_way, read_packed
from mgmae_jax.ops.pairs import neighbour_pairs
from tests.data.test_timeline import remux

HEIGHT, WIDTH, FRAMES = 160, 208, 24
VELOCITY = np.float32([-3, -1])  # pixels a frame: the scene moves to the left and up
PLAIN = {"bf": "0", "refs": "1", "g": "6"}
CLIP = ClipSpec(frames=4, stride=3, size=64)
CODEC = FlowSpec(base=2, source="codec")


def panning(frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A soft random texture that moves by `VELOCITY`."""
    noise = np.random.default_rng(0).integers(0, 256, (height + frames, width + 3 * frames, 3)).astype(np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([texture[i : i + height, 3 * i : 3 * i + width] for i in range(frames)])


def flow_of(path, indices):
    """The flow of every step in pixels of the frame as shown, [n, 2, h, w, 2]."""
    with open_video(path) as video:
        frames, stored = decode_with_flow(video, path, np.array(indices))
        np.testing.assert_array_equal(frames, open_and_decode(path, indices))
        height, width = video.frame_size
    assert (stored.first, len(stored.steps)) == (indices[0], indices[-1] - indices[0])
    assert min(stored.steps.shape[2:4]) == CELLS
    return stored.steps * np.float32([width / stored.steps.shape[3], height / stored.steps.shape[2]])


def open_and_decode(path, indices):
    with open_video(path) as video:
        return video.decode(indices)


def inner(flow):
    """Without the outermost quarters of the frames: where the scene comes in, encoders have nothing to refer to."""
    rows, columns = flow.shape[2] // 4, flow.shape[3] // 4
    return flow[:, :, rows:-rows, columns:-columns]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        pytest.param("a.mp4", "libx264", PLAIN, id="h264"),
        pytest.param("a.mp4", "libx264", {"bf": "3", "refs": "1", "b-pyramid": "none"}, id="h264-b"),
        pytest.param("a.mp4", "libx264", {"preset": "veryfast"}, id="h264-b-pyramid"),
        pytest.param("a.ts", "libx264", {"preset": "veryfast"}, id="h264-b-pyramid-start-codes"),
        pytest.param("a.avi", "mpeg4", {"g": "12"}, id="mpeg4"),
        pytest.param("a.avi", "mpeg4", {"bf": "2"}, id="mpeg4-b"),
        pytest.param("a.ts", "mpeg2video", {"bf": "2", "b": "4M"}, id="mpeg2-b"),
    ],
)
@pytest.mark.parametrize("indices", [(0, 3, 6, 9, 9), (5, 14, 20)], ids=["from-key", "midway"])
def test_a_moving_scene_has_its_velocity(name, codec, options, indices, make_video):
    path = make_video(name, frames=panning(), codec=codec, options=options)
    flow = inner(flow_of(path, indices))
    assert np.abs(flow[:, 0] - VELOCITY).max() < 0.5
    assert np.abs(flow[:, 1] + VELOCITY).max() < 0.5


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        pytest.param("a.mp4", "libx264", {"bf": "3", "refs": "1", "b-pyramid": "none"}, id="h264-b"),
        pytest.param("a.mp4", "libx264", {"preset": "veryfast"}, id="h264-b-pyramid"),
        pytest.param("a.ts", "mpeg2video", {"bf": "2", "b": "4M"}, id="mpeg2-b"),
    ],
)
def test_the_flow_of_a_clip_does_not_depend_on_where_it_ends(name, codec, options, make_video):
    """A clip that ends on a B-frame needs the vectors to the frame after it."""
    path = make_video(name, frames=panning(), codec=codec, options=options)
    longer = flow_of(path, (2, 11))
    for last in range(4, 9):
        np.testing.assert_array_equal(flow_of(path, (2, last)), longer[: last - 2])


def test_units_whose_lengths_look_like_start_codes_are_read(make_video, tmp_path):
    """A unit of 256 to 511 bytes begins with 00 00 01 in MP4."""
    noise = np.random.default_rng(1).normal(0, 4, (FRAMES, HEIGHT, WIDTH, 3))
    frames = np.clip(panning() + noise, 0, 255).astype(np.uint8)
    options = {"bf": "3", "b-pyramid": "normal", "b-adapt": "0", "scenecut": "0", "qp": "22"}
    path = make_video("a.mp4", frames=frames, options=options)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0)]
    assert any(packet[:3] == b"\0\0\1" and packet[4] & 0x60 for packet in packets), "no such unit may be referred to"
    np.testing.assert_array_equal(flow_of(path, (2, 20)), flow_of(remux(path, tmp_path / "a.ts"), (2, 20)))


def test_without_motion_the_flow_is_zero(make_video):
    path = make_video("a.mp4", frames=np.repeat(panning(1), 12, 0), options=PLAIN)
    assert not flow_of(path, (1, 9)).any()


def test_one_frame_has_no_steps(make_video):
    assert flow_of(make_video("a.mp4", frames=panning(1)), (0, 0)).shape == (0, 2, CELLS, 42, 2)


@pytest.mark.parametrize(("rotation", "expected"), [(90, (-1, 3)), (180, (3, 1)), (270, (1, -3))])
def test_flow_turns_with_the_frames(rotation, expected, make_video):
    path = make_video("a.mp4", frames=panning(), options=PLAIN, rotation=rotation)
    flow = inner(flow_of(path, (2, 8)))
    upright = open_and_decode(path, [2, 5])
    np.testing.assert_allclose(np.median(flow[:, 0], (0, 1, 2)), expected, atol=0.05)
    # What the frames themselves do, so that the expectation above is not a matter of conventions.
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float64) for frame in upright]
    (x, y), _ = cv2.phaseCorrelate(*grey)
    np.testing.assert_allclose((x, y), np.multiply(3, expected), atol=0.5)


def test_a_keyframe_repeats_the_motion_around_it(make_video):
    path = make_video("a.mp4", frames=panning(), options={**PLAIN, "g": "4"})
    flow = inner(flow_of(path, (2, 12)))
    np.testing.assert_array_equal(flow[4 - 2 - 1, 1], flow[4 - 2, 1])
    assert np.abs(flow[:, 1] + VELOCITY).max() < 0.5


def test_large_frames_are_averaged(make_video):
    path = make_video("a.mp4", frames=panning(8, 640, 720), options={**PLAIN, "preset": "ultrafast"})
    flow = flow_of(path, (1, 6))
    assert flow.shape[2:4] == (CELLS, 36)
    assert np.abs(inner(flow)[:, 0] - VELOCITY).max() < 0.5


@pytest.fixture
def videos(make_video) -> VideoList:
    for name, length in (("a/1.mp4", 24), ("a/2.mp4", 20), ("b/3.mp4", 16)):
        make_video(name, frames=panning(length), options=PLAIN)
    return read_source(make_video("a/1.mp4", frames=panning(24), options=PLAIN).parents[1])


def read(videos, count, *, flow=CODEC, workers=0, on_bad=None):
    def no_bad(path, reason):
        raise AssertionError(f"{path}: {reason}")

    spec = BatchSpec(batch_size=3, views=2, seed=0, workers=workers)
    with pretrain_batches(videos, CLIP, spec, start_step=0, flow=flow, on_bad=on_bad or no_bad) as batches:
        return list(itertools.islice(batches, count))


def test_workers_do_not_change_the_flow_nor_the_flow_the_clips(videos):
    alone, together, without = read(videos, 1), read(videos, 1, workers=1), read(videos, 1, flow=None)
    for one, other, plain in zip(alone, together, without, strict=True):
        assert one["flow"].shape == (6, 3, WINDOW, WINDOW, 2)
        assert one.keys() == other.keys() == {"clip", "flow", "flow_span", "flow_place"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_array_equal(one["clip"], plain["clip"])
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("direction", ["to_base", "from_base", "to_earlier"])
def test_flow_follows_stride_crop_and_direction(videos, direction):
    (batch,) = read(videos, 1, flow=FlowSpec(2, direction, source="codec"))
    flow = np.asarray(jax.vmap(lambda given: read_packed(given, 64, 64))(given_flow(batch)))
    source, target = neighbour_pairs(4, 2, direction)
    sides = np.array([160, 140, 120, 105])  # of crops
    for clip in flow:
        for pair, way in zip(clip, target - source, strict=True):
            x, y = np.median(pair, (0, 1)) * way
            assert np.isclose(x, 3 * VELOCITY[0] * 64 / sides, atol=0.1).any()
            assert np.isclose(y, 3 * VELOCITY[1] * 64 / sides, atol=0.1).any()


def test_without_a_base_frame_both_directions_come(videos):
    (both,), (one,) = read(videos, 1, flow=FlowSpec(None, source="codec")), read(videos, 1)
    forwards = jax.vmap(lambda flow: one_way(flow, jnp.array([True, True, False])))(given_flow(both))
    np.testing.assert_array_equal(forwards.values, one["flow"])


def test_records_give_the_same_flow(videos, tmp_path):
    beside = read(videos, 1)[0]
    prepare({"train": own_split(videos, "videos")}, tmp_path / "records", "videos", None, in_processes(1), lambda *_: 0)
    found = read(read_source(tmp_path / "records"), 1)[0]
    for name in beside:
        np.testing.assert_array_equal(found[name], beside[name])


def test_a_codec_without_motion_vectors_is_named_with_what_to_do(make_video):
    path = make_video("a.webm", frames=panning(8), codec="libvpx-vp9")
    with pytest.raises(FileError, match=r"a\.webm: is vp9 video, .*: `mgmae prepare --codec h264` .*flow\.source"):
        flow_of(path, (0, 6))


def test_a_folder_of_pictures_has_no_motion_vectors(tmp_path):
    for index, frame in enumerate(panning(4)):
        cv2.imwrite(str(tmp_path / f"{index:03}.png"), frame)
    with pytest.raises(FileError, match=r"is a folder of pictures, without motion vectors: set config\.flow\.source"):
        flow_of(tmp_path, (0, 2))


def test_a_video_of_keyframes_is_a_bad_video(make_video):
    path = make_video("a.mp4", frames=panning(8), options={"g": "1"})
    with pytest.raises(VideoError, match=r"no motion vectors from frame 1 to 6 \(keyframes only\?\)"):
        flow_of(path, (1, 6))


def test_a_run_ends_at_a_codec_without_vectors_but_not_at_keyframes(videos, make_video):
    bad = []
    keys = str(make_video("a/4.mp4", frames=panning(24), options={"g": "1"}))
    read(VideoList((*videos.paths, keys)), 2, on_bad=lambda path, reason: bad.append(path))
    assert bad == [keys]
    webm = str(make_video("a/4.webm", frames=panning(24), codec="libvpx-vp9"))
    with pytest.raises(MgmaeError, match=r"4\.webm: is vp9 video"):
        read(VideoList((*videos.paths, webm)), 2)
