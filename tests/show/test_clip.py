import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import FlowSpec
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import MgmaeError, VideoError
from mgmae_jax.flow.packed import one_way, packed, read_packed
from mgmae_jax.show.clip import clip_indices, motion_shapes_clip, motion_shapes_flow, video_clip, video_flow
from tests.stored_dense import store_dense


@given(
    length=st.integers(1, 99), frames=st.integers(2, 16), stride=st.integers(1, 5), share=st.none() | st.floats(0, 1)
)
def test_indices_step_by_the_stride_until_the_last_frame(length, frames, stride, share):
    start = None if share is None else round(share * (length - 1))
    indices = clip_indices(length, ClipSpec(frames, stride, 32), start)
    assert len(indices) == frames
    assert 0 <= indices[0] <= indices[-1] < length
    if start is None:
        assert abs(indices[0] - (length - 1 - indices[-1])) <= 1
    else:
        assert indices[0] == start
    steps = np.diff(indices)
    assert (steps[indices[1:] < length - 1] == stride).all()


@pytest.mark.parametrize("start", [-1, 10])
def test_a_start_outside_the_video_is_an_error(start):
    with pytest.raises(MgmaeError, match=rf"--start={start}: .* from 0 to 9"):
        clip_indices(10, ClipSpec(4, 2, 32), start)


def test_the_centre_of_the_frames_is_taken(tmp_path):
    frames = np.zeros((5, 32, 64, 3), np.uint8)
    frames[:, :, 16:48] = 200
    frames += np.arange(5, dtype=np.uint8)[:, None, None, None] * 10
    (tmp_path / "wide.mp4").write_bytes(encode_mp4(frames, 10))
    clip, title = video_clip(tmp_path / "wide.mp4", ClipSpec(2, 2, 32), 1)
    expected = np.broadcast_to(np.reshape([210, 230], (2, 1, 1, 1)), (2, 32, 28, 3))
    np.testing.assert_allclose(clip[:, :, 2:-2].astype(int), expected, atol=6)
    assert title == "wide.mp4: frames 1 to 3, 2 apart"
    _, title = video_clip(tmp_path / "wide.mp4", ClipSpec(8, 1, 32), None)
    assert title == "wide.mp4: frames 0 to 4, 1 apart, the last 4 times (the video is short)"


def test_a_clip_of_one_frame_has_a_title(tmp_path):
    (tmp_path / "a.mp4").write_bytes(encode_mp4(np.zeros((5, 32, 32, 3), np.uint8), 10))
    clip, title = video_clip(tmp_path / "a.mp4", ClipSpec(1, 4, 32), None)
    assert (clip.shape, title) == ((1, 32, 32, 3), "a.mp4: frame 2")
    assert motion_shapes_clip("falling", 3, ClipSpec(1, 2, 32), 7)[1] == "Procedural video falling: frame 7"


def test_what_is_no_video_is_an_error(tmp_path):
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"notes\.mp4"):
        video_clip(tmp_path / "notes.mp4", ClipSpec(2, 1, 32), None)


def test_procedural_clips_have_the_size_and_seed_asked_for():
    spec = ClipSpec(4, 2, 32)
    clip, title = motion_shapes_clip("falling", 3, spec, None)
    assert clip.shape == (4, 32, 32, 3)
    assert "falling" in title
    assert not np.array_equal(clip, motion_shapes_clip("falling", 4, spec, None)[0])
    assert not np.array_equal(clip, motion_shapes_clip("lifted", 3, spec, None)[0])


@pytest.mark.parametrize(("start", "first"), [(1, 1), (None, 3)])
def test_the_flow_of_a_video_is_of_its_clip(tmp_path, start, first):
    """Of a wide video whose flow grows from frame to frame, and is another beside the middle square."""
    path, size = tmp_path / "wide.mp4", (32, 64)
    path.write_bytes(encode_mp4(np.zeros((12, *size, 3), np.uint8), 10))
    flow = np.zeros((2, 11, *size, 2), np.float32)
    flow[..., 16:48, 0] = np.arange(11)[:, None, None]
    store_dense(path, flow)
    given = video_flow(path, ClipSpec(3, 2, 16), start, FlowSpec(0, "from_base", source="stored"))
    found = read_packed(packed(given), 16, 16)
    assert found.shape == (2, 16, 16, 2)
    steps = [2 * first + 1, 2 * first + 5]  # of frames first and first + 1, and of the two after them
    np.testing.assert_allclose(found[:, 8, 3:5, 0], np.float32(steps)[:, None].repeat(2, 1) / 2, atol=0.01)


@pytest.mark.parametrize("base", [2, None])
def test_the_flow_of_a_procedural_clip_is_true(base):
    spec = ClipSpec(4, 1, 32)
    given = packed(motion_shapes_flow("falling", 3, spec, 5, FlowSpec(base, source="stored")))
    ways = [given] if base is not None else [one_way(given, np.array([forwards] * 3)) for forwards in (True, False)]
    found = np.squeeze(np.stack([read_packed(way, 32, 32) for way in ways]), () if base is None else 0)
    label = motion_shapes.CLASSES.index("falling")
    asked = {"size": (32, 32), "frames": 40, "label": label}
    forwards, backwards = (motion_shapes.true_flow(3, 0, **asked, backward=way)[5:8] for way in (False, True))
    expected = np.stack([forwards, backwards]) if base is None else np.stack([*forwards[:2], backwards[2]])
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.abs(found).max() > 0.2
