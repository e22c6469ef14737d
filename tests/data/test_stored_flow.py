import contextlib
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmae_jax.data.augment import CropBox, crop_resize
from mgmae_jax.data.stored_flow import (
    CELL,
    StoredFlow,
    cell_grid,
    clip_flow,
    flow_path,
    has_flow,
    read_flow,
    to_cells,
    write_flow,
)
from mgmae_jax.datasets.motion_shapes.scene import sample_scene, scene_flow
from mgmae_jax.errors import FileError, VideoError

FRAMES, SIZE = 6, (20, 30)  # 20 is a whole number of cells and 30 is not


def ramp(frames: int = FRAMES, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Flow whose every value is another, exact in half precision."""
    shape = (2, frames - 1, *cell_grid(*size), 2)
    return (np.arange(np.prod(shape)).reshape(shape) % 1999 / 8).astype(np.float32)


def constant(velocity: tuple[float, float], frames: int, size: tuple[int, int]) -> StoredFlow:
    """Everything moves by one velocity (x, y) in pixels a frame."""
    forwards = np.broadcast_to(np.float32(velocity), (frames - 1, *cell_grid(*size), 2))
    return StoredFlow(np.stack([forwards, -forwards]), 0, size)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    write_flow(tmp_path / "a.mp4.flow.npz", ramp(), SIZE)
    return tmp_path / "a.mp4.flow.npz"


def read(path: Path, frames: int = FRAMES, size: tuple[int, int] = SIZE, **stretch: int) -> StoredFlow:
    return read_flow(path, "a.mp4", frames=frames, frame_size=size, **stretch)


def test_what_is_written_is_read(stored: Path):
    np.testing.assert_array_equal(read(stored).steps, ramp())
    assert [path.name for path in stored.parent.iterdir()] == [stored.name]


def test_the_file_is_one_of_numpys(stored: Path):
    with np.load(stored, allow_pickle=False) as arrays:
        assert {name: (arrays[name].dtype, arrays[name].shape) for name in arrays} == {
            "flow": (np.float16, (2, FRAMES - 1, 5, 8, 2)),
            "frame_size": (np.int32, (2,)),
            "frames": (np.int32, ()),
        }
        assert (arrays["frame_size"].tolist(), int(arrays["frames"])) == ([20, 30], FRAMES)


@pytest.mark.parametrize(("first", "last"), [(0, 5), (0, 1), (2, 4), (4, 5), (3, 3), (5, 5)])
def test_a_stretch_is_read_alone(stored: Path, first: int, last: int):
    part = read(stored, first=first, last=last)
    np.testing.assert_array_equal(part.steps, ramp()[:, first:last])
    assert (part.first, part.frame_size) == (first, SIZE)


def test_a_video_of_one_frame_has_no_steps(tmp_path: Path):
    write_flow(tmp_path / "flow.npz", ramp(1), SIZE)
    still = read(tmp_path / "flow.npz", 1)
    assert still.steps.shape == (2, 0, 5, 8, 2)
    flow = clip_flow(still, np.zeros(4, int), np.arange(3), np.arange(1, 4), CropBox(0, 0, 20, 20), 16)
    assert flow.shape == (3, 16, 16, 2)
    assert not flow.any()


def test_where_flow_lies():
    assert flow_path("videos/a/b.mp4") == Path("videos/a/b.mp4.flow.npz")
    assert flow_path("videos/a/b.mp4", "videos", "flow") == Path("flow/a/b.mp4.flow.npz")
    assert flow_path("videos/../other/b.mp4", "other", "flow") == Path("flow/b.mp4.flow.npz")
    assert flow_path("/else/where/b.mp4", "videos", "flow") == Path("flow/else/where/b.mp4.flow.npz")


def test_absent_flow_says_how_it_is_made(tmp_path: Path):
    with pytest.raises(FileError, match=r"a\.mp4\.flow\.npz: the flow of a\.mp4 is not there: `mgmae flow --config"):
        read(tmp_path / "a.mp4.flow.npz")
    assert not has_flow(tmp_path / "a.mp4.flow.npz", "a.mp4", frames=FRAMES, frame_size=SIZE)


@pytest.mark.parametrize(
    ("frames", "size", "words"),
    [
        (7, (20, 30), "6 frames of 30x20, but a.mp4 has 7 of 30x20"),
        (6, (30, 20), "6 frames of 30x20, but a.mp4 has 6 of 20x30"),
    ],
)
def test_flow_of_another_video_names_both(stored: Path, frames: int, size: tuple[int, int], words: str):
    with pytest.raises(FileError, match=rf"a\.mp4\.flow\.npz: is the flow of {re.escape(words)}") as error:
        read(stored, frames, size)
    assert not isinstance(error.value, VideoError)  # which would be passed over as a bad video
    assert not has_flow(stored, "a.mp4", frames=frames, frame_size=size)
    assert has_flow(stored, "a.mp4", frames=FRAMES, frame_size=SIZE)


def replace(path: Path, **changes: np.ndarray) -> None:
    np.savez(
        path, **{"flow": ramp().astype(np.float16), "frame_size": np.int32(SIZE), "frames": np.int32(6), **changes}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"flow": ramp()},
        {"flow": ramp().astype(np.int16)},
        {"flow": ramp()[:1].astype(np.float16)},
        {"flow": ramp()[:, :, :0].astype(np.float16)},
        {"flow": np.asfortranarray(ramp().astype(np.float16))},
        {"flow": np.full_like(ramp(), np.nan, np.float16)},
        {"flow": np.array([{}, 1], object)},
        {"frame_size": np.int32([20, 30, 3])},
        {"frame_size": np.int64(SIZE)},
        {"frames": np.int32([6])},
        {"frames": np.int32(5)},
        {"more": np.int32(1)},
    ],
    ids=lambda changes: f"{next(iter(changes))} {next(iter(changes.values())).dtype}",
)
def test_files_of_something_else_are_refused(stored: Path, changes: dict):
    replace(stored)
    read(stored)
    replace(stored, **changes)
    with pytest.raises(
        FileError, match=r"a\.mp4\.flow\.npz: the flow of a\.mp4 cannot be read \(damaged\? .*mgmae flow"
    ):
        read(stored)


def test_a_shape_that_promises_more_than_there_is_is_refused(stored: Path):
    content = stored.read_bytes()
    assert content.count(b"(2, 5, 5, 8, 2)") == 1
    stored.write_bytes(content.replace(b"(2, 5, 5, 8, 2)", b"(2, 5, 9, 8, 2)"))
    with pytest.raises(FileError, match=r"flow\.npy is shorter or longer than its shape \(2, 5, 9, 8, 2\) says"):
        read(stored)


def test_a_compressed_file_is_refused(stored: Path):
    np.savez_compressed(stored, flow=ramp().astype(np.float16), frame_size=np.int32(SIZE), frames=np.int32(6))
    with pytest.raises(FileError, match="is compressed"):
        read(stored)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damage_is_an_error_or_other_numbers(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "damaged.flow.npz"
    write_flow(path, ramp(), SIZE)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut off"):
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        with pytest.raises(FileError, match=re.escape(f"{path}: ")):
            read(path)
        return
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(FileError):
        assert read(path).steps.shape == ramp().shape


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])
def test_flow_that_is_not_finite_is_not_written(tmp_path: Path, value: float):
    with pytest.raises(FileError, match=r"a\.npz: was not written: its flow is infinite or not a number"):
        write_flow(tmp_path / "a.npz", np.full_like(ramp(), value), SIZE)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FileError, match=r"taken/a\.npz: cannot be written .*config\.flow\.path"):
        write_flow(tmp_path / "taken" / "a.npz", ramp(), SIZE)


def test_cells_average_their_pixels():
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(3, 20, 32, 2)).astype(np.float32)
    means = flow.reshape(3, 20 // CELL, CELL, 32 // CELL, CELL, 2).mean((2, 4))
    np.testing.assert_allclose(to_cells(flow, (20, 32)), means, atol=1e-5)
    # Of frames that were resized, in pixels of those that were not.
    np.testing.assert_allclose(to_cells(flow, (10, 128)).mean((1, 2)), means.mean((1, 2)) * [4, 0.5], atol=1e-5)
    assert to_cells(flow, (81, 30)).shape == (3, 21, 8, 2)


velocities = st.tuples(*[st.floats(-9, 9, width=32)] * 2)


@settings(deadline=None)
@given(
    velocity=velocities,
    start=st.integers(0, 4),
    strides=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    size=st.tuples(st.integers(9, 60), st.integers(9, 60)),
    backwards=st.booleans(),
)
def test_n_steps_of_a_constant_flow_are_n_times_it(velocity, start, strides, size, backwards):
    indices = start + np.cumsum([0, *strides])
    earlier = np.arange(len(strides))
    source, target = (earlier + 1, earlier) if backwards else (earlier, earlier + 1)
    stored = constant(velocity, int(indices[-1]) + 2, size)
    side = min(size)
    flow = clip_flow(stored, indices, source, target, CropBox(size[0] - side, 0, side, side), side)
    expected = (indices[target] - indices[source])[:, None, None, None] * np.float32(velocity)
    np.testing.assert_allclose(flow, np.broadcast_to(expected, flow.shape), atol=1e-3)


def test_repeated_frames_do_not_move():
    stored = constant((3, 1), 9, (32, 32))
    flow = clip_flow(stored, np.array([2, 4, 4, 4]), np.arange(3), np.arange(1, 4), CropBox(0, 0, 32, 32), 16)
    np.testing.assert_allclose(flow[0], np.broadcast_to(np.float32([3, 1]), (16, 16, 2)), atol=1e-4)
    assert not flow[1:].any()


def test_flow_is_in_pixels_of_the_resized_crop():
    flow = clip_flow(
        constant((4, 3), 2, (40, 60)), np.arange(2), np.array([0]), np.array([1]), CropBox(5, 8, 30, 20), 10
    )
    np.testing.assert_allclose(flow, np.broadcast_to(np.float32([2, 1]), (1, 10, 10, 2)), atol=1e-5)


def test_the_crop_of_the_flow_lies_where_that_of_the_frames_does():
    """Of a picture that holds its own x and y, crop_resize and clip_flow make the same."""
    y, x = np.mgrid[:64, :96]
    box = CropBox(10, 21, 40, 60)
    picture = np.stack([x, y, y], -1).astype(np.uint8)[None]
    shown = crop_resize(picture, box, 20)[0, ..., :2].astype(np.float32)
    positions = to_cells(np.stack([x, y], -1).astype(np.float32)[None], (64, 96))
    stored = StoredFlow(np.stack([positions, positions]), 0, (64, 96))
    flow = clip_flow(stored, np.arange(2), np.array([0]), np.array([1]), box, 20)[0]
    # The picture is rounded to whole numbers, and OpenCV's positions to a 32nd of a cell: an eighth of a pixel.
    np.testing.assert_allclose(flow / [20 / 60, 20 / 40], shown, atol=0.5 + CELL / 32)


def test_steps_are_read_where_the_point_has_got_to():
    """The second step differs from left to right: one that moves there follows the right's."""
    first, second = np.zeros((2, 8, 16, 2), np.float32)
    first[..., 0] = 32
    second[:, 8:, 1] = 5
    stored = StoredFlow(np.stack([[first, second]] * 2), 0, (32, 64))
    flow = clip_flow(stored, np.array([0, 2]), np.array([0]), np.array([1]), CropBox(0, 0, 32, 32), 32)[0]
    np.testing.assert_allclose(flow[:, 4:28], np.broadcast_to(np.float32([32, 5]), (32, 24, 2)), atol=1e-4)
    backwards = clip_flow(stored, np.array([0, 2]), np.array([1]), np.array([0]), CropBox(0, 0, 32, 32), 32)[0]
    np.testing.assert_allclose(backwards[:, :28], np.broadcast_to(np.float32([32, 0]), (32, 28, 2)), atol=1e-4)


@pytest.mark.parametrize("backward", [False, True])
def test_chained_true_flow_is_true_over_the_stride(backward: bool):
    """Of procedural videos at stride 3, cut and enlarged: the true flow between the clip's frames themselves."""
    size, box = (96, 128), CropBox(16, 30, 64, 80)
    indices, earlier = 14 + 3 * np.arange(5), np.arange(4)
    source, target = (earlier + 1, earlier) if backward else (earlier, earlier + 1)
    errors, lengths = [], []
    for index in range(8):
        scene = sample_scene(0, index, size=size, frames=40)
        both = [to_cells(scene_flow(scene, backward=way), size) for way in (False, True)]
        flow = clip_flow(StoredFlow(np.stack(both), 0, size), indices, source, target, box, 160)
        thinned = dataclasses.replace(scene, transforms=scene.transforms[:, indices])
        true = scene_flow(thinned, backward=backward)[:, 16:80, 30:110]
        # A pixel becomes 2.5 rows and 2 columns: row 1 lies at row 3.25, column 1 at column 2.5.
        errors.append(np.linalg.norm(flow[:, 3::5, 2::4] / np.float32([2, 2.5]) - true[:, 1::2, 1::2], axis=-1))
        lengths.append(np.linalg.norm(true, axis=-1))
    # Where something covers a point on its way, or a cell holds two motions, chained steps are not exact.
    assert np.median(lengths) > 1
    assert np.median(errors) < 0.01
    assert np.mean(np.asarray(errors) < 0.1) > 0.7
    assert np.mean(np.asarray(errors) < 1) > 0.87
