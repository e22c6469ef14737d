"""From stored flow to that of a crop's pixels: `data.stored_clips` on the host, then `flow.packed` in the step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from mgmae_jax.data.augment import CropBox, crop_offsets, crop_resize, multi_scale_crop_box
from mgmae_jax.data.stored_clips import clip_flow, window_size
from mgmae_jax.data.stored_flow import StoredFlow, cell_grid, corner_grid, to_cells
from mgmae_jax.datasets.motion_shapes.scene import sample_scene, scene_flow
from mgmae_jax.flow.packed import PackedFlow, one_way, packed, read_packed
from mgmae_jax.flow.raft import upsample_flow
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.train.store_flow import frame_sides

STILL = np.array([0]), np.array([1])  # source and target of a clip of two frames


def constant(velocity: tuple[float, float], frames: int, size: tuple[int, int]) -> StoredFlow:
    """Everything moves by one velocity (x, y) in pixels a frame."""
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    steps = np.float32(velocity) * np.float32([columns / size[1], rows / size[0]])
    forwards = np.broadcast_to(steps, (frames - 1, rows, columns, 2))
    return StoredFlow(np.stack([forwards, -forwards], 1), 0, cell_grid(rows, columns))


read = jax.jit(read_packed, static_argnums=(1, 2, 3))


def waves(rows: int, columns: int) -> np.ndarray:
    """Smooth flow with turning points everywhere, in RAFT's cells: [1, h, w, 2]."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([np.sin(0.9 * x) + np.cos(0.7 * y), np.sin(0.8 * y + 0.5 * x)], -1).astype(np.float32)[None]


def pixels(stored: StoredFlow, indices, pairs, box: CropBox, frame_size: tuple[int, int], size: int) -> np.ndarray:
    """Flow of a crop in its pixels."""
    window = window_size(stored.steps.shape[2:4])
    found = clip_flow(stored, np.asarray(indices), *pairs, box, frame_size, window)
    assert (found.values.dtype, found.values.shape[1:]) == (np.uint8, (window, window, 2))
    return np.asarray(read(packed(found), size, size))


@settings(max_examples=300)
@given(
    frame_size=st.tuples(st.integers(16, 640), st.integers(16, 640)),
    size=st.integers(8, 40).map(lambda cells: 8 * cells),
    corners=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example((240, 320), 256, False, 0)
@example((256, 340), 256, False, 0)
@example((480, 512), 256, False, 0)
@example((200, 252), 256, False, 0)
def test_the_window_holds_every_crop(frame_size, size, corners, seed):
    height, width = frame_sides(*frame_size, size)
    rows, columns = height // 8, width // 8
    grid = corner_grid(rows, columns, height, width) if corners else cell_grid(rows, columns)
    steps = np.broadcast_to(np.float32([1, 1]), (1, 2, rows, columns, 2))
    rng = np.random.default_rng(seed)
    largest = min(frame_size)
    boxes = [multi_scale_crop_box(*frame_size, rng=rng) for _ in range(8)]
    boxes += [CropBox(y, x, largest, largest) for y, x in crop_offsets(*frame_size, largest, largest)]
    for box in boxes:
        window = window_size((rows, columns))
        place = clip_flow(StoredFlow(steps, 0, grid), np.arange(2), *STILL, box, frame_size, window).place
        assert place.sum(1).max() <= window - 1


def test_the_last_columns_of_a_crop_are_read_at_their_place():
    """A flow that is each place's own column, of a crop as high as the frame and at its right end."""
    height, width = 480, 512
    high, wide = frame_sides(height, width, 256)
    columns = np.broadcast_to(np.arange(wide // 8, dtype=np.float32)[None, None, :, None], (1, high // 8, wide // 8, 2))
    stored = StoredFlow(np.stack([columns, columns], 1), 0, cell_grid(*columns.shape[1:3]))
    left = width - height
    flow = pixels(stored, [0, 1], STILL, CropBox(0, left, height, height), (height, width), 32)[0, 0, :, 0]
    pixel = left + height * (np.arange(32) + 0.5) / 32
    index = np.clip(pixel * (wide // 8) / width - 0.5, 0, wide // 8 - 1)
    np.testing.assert_allclose(flow * height / 32 * (wide // 8) / width, index, atol=0.1)


velocities = st.tuples(*[st.floats(-9, 9, width=32)] * 2)


@settings(max_examples=40)
@given(
    velocity=velocities,
    start=st.integers(0, 4),
    strides=st.lists(st.integers(0, 4), min_size=3, max_size=3),
    size=st.sampled_from([(24, 60), (60, 24), (24, 24), (24, 41)]),
    backwards=st.booleans(),
)
def test_n_steps_of_a_constant_flow_are_n_times_it(velocity, start, strides, size, backwards):
    indices = start + np.cumsum([0, *strides])
    earlier = np.arange(len(strides))
    source, target = (earlier + 1, earlier) if backwards else (earlier, earlier + 1)
    stored = constant(velocity, int(indices[-1]) + 2, size)
    side = min(size)
    flow = pixels(stored, indices, (source, target), CropBox(size[0] - side, 0, side, side), size, side)
    expected = (indices[target] - indices[source])[:, None, None, None] * np.float32(velocity)
    np.testing.assert_allclose(flow, np.broadcast_to(expected, flow.shape), atol=1e-3)


def test_repeated_frames_do_not_move():
    stored, pairs = constant((3, 1), 9, (32, 32)), (np.arange(3), np.arange(1, 4))
    flow = pixels(stored, [2, 4, 4, 4], pairs, CropBox(0, 0, 32, 32), (32, 32), 16)
    np.testing.assert_allclose(flow[0], np.broadcast_to(np.float32([3, 1]), (16, 16, 2)), atol=1e-4)
    assert not flow[1:].any()


def test_flow_is_in_pixels_of_the_resized_crop():
    flow = pixels(constant((4, 3), 2, (40, 60)), [0, 1], STILL, CropBox(5, 8, 30, 20), (40, 60), 10)
    np.testing.assert_allclose(flow, np.broadcast_to(np.float32([2, 1]), (1, 10, 10, 2)), atol=1e-5)


def test_the_crop_of_the_flow_lies_where_that_of_the_frames_does():
    """Of a picture that holds its own x and y, crop_resize and clip_flow make the same."""
    y, x = np.mgrid[:64, :96]
    box = CropBox(10, 21, 40, 60)
    picture = np.stack([x, y, y], -1).astype(np.uint8)[None]
    shown = crop_resize(picture, box, 20)[0, ..., :2].astype(np.float32)
    positions = to_cells(np.stack([x, y], -1).astype(np.float32)[None], 16, 24)
    stored = StoredFlow(np.stack([positions, positions], 1), 0, cell_grid(16, 24))
    flow = pixels(stored, [0, 1], STILL, box, (64, 96), 20)[0]
    np.testing.assert_allclose(flow / [20 / 60, 20 / 40], shown, atol=0.5 + 96 / 510)  # both are rounded


@settings(max_examples=12)
@given(
    place=st.tuples(st.sampled_from([0, 3, 17, 32]), st.sampled_from([0, 5, 40, 64])),
    sides=st.tuples(st.integers(40, 64), st.integers(40, 64)),
)
def test_cutting_the_grid_is_upsampling_and_then_cutting(place, sides):
    """Of RAFT's own cells: what `upsample_flow` gives for the whole frame, read at the centres of the crop's pixels."""
    height, width, size = 64, 104, 24
    low = waves(height // 8, width // 8)
    box = CropBox(min(place[0], height - sides[0]), min(place[1], width - sides[1]), *sides)
    whole = np.asarray(upsample_flow(jnp.asarray(low)))[0]
    edges = (box.y, box.height), (box.x, box.width)
    cut = np.meshgrid(*(begin + side / size * (np.arange(size) + 0.5) - 0.5 for begin, side in edges), indexing="ij")
    expected = np.asarray(map_coordinates(whole[..., 0], cut, order=1, mode="nearest"))
    grid = corner_grid(*low.shape[1:3], height, width)
    steps = low * np.float32([8 * 12 / 103, 8 * 7 / 63])
    stored = StoredFlow(np.stack([steps, steps], 1), 0, grid)
    flow = pixels(stored, [0, 1], STILL, box, (height, width), size)[0, ..., 0] * box.width / size
    # Of 32 pixels: eight bits are off by up to 0.06, and at a bend between two of the upsampled pixels the rest.
    np.testing.assert_allclose(flow, expected, atol=0.3)
    assert np.abs(flow - expected).mean() < 0.05


def test_points_are_those_of_the_pixels():
    stored = StoredFlow(np.stack([waves(6, 9)] * 2, 1), 0, corner_grid(6, 9, 48, 72))
    found = clip_flow(stored, np.arange(2), *STILL, CropBox(3, 9, 40, 44), (48, 72), window_size((6, 9)))
    dense, points = read(packed(found), 32, 32), read(packed(found), 32, 32, (4, 4))
    # The centre of a cell of 8 pixels lies between two pixels.
    np.testing.assert_allclose(points, resample_cells(dense, 4, 4), atol=0.2)


def test_one_way_is_chosen_pair_by_pair():
    rng = np.random.default_rng(0)
    both = PackedFlow(
        jnp.asarray(rng.integers(0, 256, (2, 3, 5, 5, 2)), jnp.uint8),
        jnp.asarray(rng.normal(size=(2, 3, 2, 2)), jnp.float32),
        jnp.asarray([[0.5, 3], [0.5, 3]], jnp.float32),
    )
    chosen = one_way(both, jnp.array([True, False, True]))
    for pair, row in enumerate((0, 1, 0)):
        np.testing.assert_array_equal(chosen.values[pair], both.values[row, pair])
        np.testing.assert_array_equal(chosen.span[pair], both.span[row, pair])


def test_steps_are_read_where_the_point_has_got_to():
    """The second step differs from left to right: one that moves there follows the right's."""
    first, second = np.zeros((2, 8, 16, 2), np.float32)
    first[..., 0] = 8
    second[:, 8:, 1] = 1.25
    stored = StoredFlow(np.stack([[first, first], [second, second]]), 0, cell_grid(8, 16))
    box, size = CropBox(0, 0, 32, 32), (32, 64)
    flow = pixels(stored, [0, 2], STILL, box, size, 32)[0]
    np.testing.assert_allclose(flow[:, 4:28], np.broadcast_to(np.float32([32, 5]), (32, 24, 2)), atol=1e-4)
    backwards = pixels(stored, [0, 2], STILL[::-1], box, size, 32)[0]
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
        both = [to_cells(scene_flow(scene, backward=way), 24, 32) for way in (False, True)]
        stored = StoredFlow(np.stack(both, 1), 0, cell_grid(24, 32))
        flow = pixels(stored, indices, (source, target), box, size, 160)
        thinned = dataclasses.replace(scene, transforms=scene.transforms[:, indices])
        true = scene_flow(thinned, backward=backward)[:, 16:80, 30:110]
        # A pixel becomes 2.5 rows and 2 columns: row 1 lies at row 3.25, column 1 at column 2.5.
        errors.append(np.linalg.norm(flow[:, 3::5, 2::4] / np.float32([2, 2.5]) - true[:, 1::2, 1::2], axis=-1))
        lengths.append(np.linalg.norm(true, axis=-1))
    # Where something covers a point on its way, or a cell holds two motions, chained steps are not exact.
    assert np.median(lengths) > 1
    assert np.median(errors) < 0.02
    assert np.mean(np.asarray(errors) < 0.1) > 0.7
    assert np.mean(np.asarray(errors) < 1) > 0.87
