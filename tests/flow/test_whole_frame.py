import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.bench.flops import count_flops
from mgmae_jax.data.augment import CropBox, crop_resize
from mgmae_jax.data.pretrain_clips import crop_place
from mgmae_jax.flow.clip_flow import _of_clip, clip_flow
from mgmae_jax.flow.whole_frame import read_crop, whole_frame_flow
from mgmae_jax.interop.flow_weights import load_flow_params

POINTS = (8, 8)
SIDE = 192  # of the whole frames


def moving_frames(step):
    """Blurred noise that moves by `step` (x, y) pixels a frame, uint8 [3, SIDE, SIDE, 3]."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(220, 220, 3)), (0, 0), 2)
    noise = np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8)
    x, y = step
    return np.stack([noise[14 - i * y :, 14 - i * x :][:SIDE, :SIDE] for i in range(3)])


@pytest.mark.parametrize("points", [None, (14, 14)])
def test_the_crop_that_is_the_whole_frame_reads_what_the_frame_itself_does(points):
    y, x = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    low = jnp.asarray(np.stack([np.sin(x / 3) + y / 9, np.cos(y / 4) - x / 7], axis=-1)[None], jnp.float32)
    place = jnp.array([[0.0, 1.0], [0.0, 1.0]])
    found = read_crop(low, place, 112, 112, points)
    expected = _of_clip(low, (64, 64), (112, 112), points)
    np.testing.assert_allclose(found, expected, atol=1e-4 if points else 0.1)  # a resize differs at the edges


def test_flow_is_in_pixels_of_the_crop():
    low = jnp.full((2, 8, 8, 2), jnp.array([0.5, -0.25]))  # of a frame of 64x64: 4 and -2 pixels
    flow = read_crop(low, jnp.array([[0.25, 0.5], [0.1, 0.8]]), 96, 96, (6, 6))
    np.testing.assert_allclose(flow, np.broadcast_to([4 / 64 / 0.8 * 96, -2 / 64 / 0.5 * 96], flow.shape), rtol=1e-5)


def test_smooth_motion_is_that_of_each_view_to_a_seventh_of_a_pixel():
    params = load_flow_params("bundled")
    frames, own_scale = moving_frames((3, 2)), CropBox(24, 40, 128, 128)
    boxes = [own_scale, CropBox(64, 8, 112, 96)]
    places = np.stack([crop_place(box, (SIDE, SIDE)) for box in boxes])
    options = {"base": 1, "iters": 6, "points": POINTS, "scan": True}
    flow = jax.jit(functools.partial(whole_frame_flow, height=128, width=128, **options))(params, frames, places)
    assert flow.shape == (2, 2, *POINTS, 2)
    found = jnp.median(flow, axis=(2, 3))
    view = jax.jit(functools.partial(clip_flow, **options))(params, crop_resize(frames, own_scale, 128))
    np.testing.assert_allclose(found[0], jnp.median(view, axis=(1, 2)), atol=1 / 7)
    for box, moves in zip(boxes, found, strict=True):
        expected = np.array([3 * 128 / box.width, 2 * 128 / box.height])
        np.testing.assert_allclose(moves, [expected, -expected], atol=0.2)


def test_more_views_are_no_more_work_for_raft(random_params):
    frames = jnp.zeros((3, 64, 64, 3), jnp.uint8)

    def work(views):
        flow = functools.partial(whole_frame_flow, base=1, iters=1, height=64, width=64, points=POINTS)
        return count_flops(jax.jit(flow).trace(random_params, frames, jnp.ones((views, 2, 2))).jaxpr.jaxpr)

    assert work(8) < 1.01 * work(1)
