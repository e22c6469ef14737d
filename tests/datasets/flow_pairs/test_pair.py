"""Synthetic pairs: the flow is that of the pictures, on the host and on the device."""

import functools

import cv2
import jax
import numpy as np
import pytest

from mgmae_jax.datasets.flow_pairs.banks import SHAPES, SIDE, TEXTURES, make_banks
from mgmae_jax.datasets.flow_pairs.pair import draw_pair
from mgmae_jax.datasets.flow_pairs.scene import FAST, LAYERS, SLOW, Scene, sample_scene
from mgmae_jax.train.flow_pairs import bank_arrays, draw_pairs

SIZE = 96


@pytest.fixture(scope="module")
def banks():
    return make_banks(0)


def smooth(banks):
    """The same banks with textures that a bilinear filter samples well."""
    textures = np.stack(
        [cv2.GaussianBlur(texture, (0, 0), 3, borderType=cv2.BORDER_DEFAULT) for texture in banks.textures]
    )
    return banks.__class__(textures, banks.shapes, banks.noise)


def warped_back(pair):
    y, x = np.mgrid[: len(pair.flow), : len(pair.flow)].astype(np.float32)
    return cv2.remap(pair.image2, x + pair.flow[..., 0], y + pair.flow[..., 1], cv2.INTER_LINEAR)


def test_a_pair_is_a_pure_function_of_seed_and_index(banks):
    scenes = [sample_scene(3, 5, SIZE), sample_scene(3, 5, SIZE)]
    for one, two in zip(*scenes, strict=True):
        np.testing.assert_array_equal(one, two)
    pairs = [draw_pair(banks, scene, SIZE) for scene in scenes]
    np.testing.assert_array_equal(pairs[0].image2, pairs[1].image2)
    other = [sample_scene(3, 6, SIZE), sample_scene(4, 5, SIZE)]
    assert all(not np.array_equal(scene.texture_map, scenes[0].texture_map) for scene in other)


def test_frame_2_warped_back_by_the_flow_is_frame_1_where_nothing_hides_it(banks):
    smoothed, errors = smooth(banks), []
    for index in range(40):
        pair = draw_pair(smoothed, sample_scene(1, index, SIZE, photometric=False), SIZE)
        # An outline's soft edge shows two layers in one pixel.
        seen = cv2.erode((~pair.occluded).astype(np.uint8), np.ones((3, 3))) > 0
        errors.append(np.abs(warped_back(pair).astype(float) - pair.image1).mean(axis=-1)[seen])
        still = np.abs(pair.image2.astype(float) - pair.image1).mean(axis=-1)[seen]
        moved = np.linalg.norm(pair.flow, axis=-1)[seen].mean() > 1
        assert not moved or np.median(errors[-1]) < still.mean()
    every = np.concatenate(errors)
    assert np.median(every) < 0.7  # of 255: both frames are rounded
    assert every.mean() < 1.0
    assert np.quantile(every, 0.95) < 2.5


def test_what_is_marked_as_hidden_would_not_match(banks):
    """The occlusion mask says something: where it marks a point inside the frame, warping back misses."""
    hidden, seen = [], []
    for index in range(40):
        pair = draw_pair(banks, sample_scene(1, index, SIZE, photometric=False), SIZE)
        y, x = np.mgrid[:SIZE, :SIZE]
        landing = np.stack([x, y], -1) + pair.flow
        inside = ((landing >= 0) & (landing <= SIZE - 1)).all(axis=-1)
        assert pair.occluded[~inside].all()
        error = np.abs(warped_back(pair).astype(float) - pair.image1).mean(axis=-1)
        hidden.append(error[pair.occluded & inside])
        seen.append(error[~pair.occluded])
    assert np.concatenate(hidden).mean() > 10 * np.concatenate(seen).mean()


def test_the_device_draws_what_the_host_draws(banks):
    scenes = [sample_scene(2, index, 64) for index in range(6)]
    assert any(scene.shutter > 0 for scene in scenes)
    assert any(scene.quantisation > 0 for scene in scenes)
    batch = Scene(*(np.stack(field) for field in zip(*scenes, strict=True)))
    draw = jax.jit(functools.partial(draw_pairs, size=64, occlusion=True))
    device = jax.device_get(draw(bank_arrays(banks), batch))
    for i, scene in enumerate(scenes):
        host = draw_pair(banks, scene, 64)
        same_layer = np.abs(device.flow[i] - host.flow).max(axis=-1) < 1e-2
        assert same_layer.mean() > 0.995  # an outline's edge may fall either way
        assert (device.occluded[i] == host.occluded).mean() > 0.99
        for one, two in ((device.image1[i], host.image1), (device.image2[i], host.image2)):
            # OpenCV places samples to 1/32 of a pixel; a coarse quantisation makes steps of that, and no blur hides it
            # in a sharp picture.
            bound = 2.0 if scene.quantisation > 0 else 1.0 if scene.blur.any() else 3.0
            assert np.abs(one.astype(float) - two).mean() < bound


def test_motion_is_mostly_small_with_a_heavy_tail(banks):
    lengths = []
    for index in range(150):
        pair = draw_pair(banks, sample_scene(0, index, 224), 224, occlusion=False)
        lengths.append(np.linalg.norm(pair.flow[::8, ::8], axis=-1).ravel())
    lengths = np.concatenate(lengths)
    assert 1 < np.median(lengths) < 8
    assert 0.6 < (lengths < 8).mean() < 0.9
    assert 0.005 < (lengths > 40).mean() < 0.1


def test_in_a_third_of_the_scenes_nothing_moves_by_more_than_a_pixel(banks):
    pairs = [draw_pair(banks, sample_scene(3, index, 64), 64, occlusion=False) for index in range(150)]
    furthest = np.array([np.linalg.norm(pair.flow, axis=-1).max() for pair in pairs])
    tripod = (furthest == 0).mean()  # and a background alone
    assert abs((furthest <= 1).mean() - SLOW - tripod) < 0.12
    slow = furthest[(furthest > 0) & (furthest <= 1)]
    assert slow.min() < 0.25
    assert slow.max() > 0.75


def test_in_a_sixth_of_the_scenes_the_camera_sweeps():
    motions = np.array([sample_scene(5, index, 224).motion[0] for index in range(1000)])
    centre = np.array([111.5, 111.5, 1])
    landing = motions @ centre
    lengths = np.linalg.norm(landing[:, :2] / landing[:, 2:] - centre[:2], axis=-1)
    others = (1 - SLOW - FAST) * 0.8 * 0.25  # a quarter of the other moving cameras go as far
    assert abs((lengths > 0.05 * 224).mean() - FAST - others) < 0.04
    assert lengths.max() < 0.41 * 224


def test_scenes_have_what_they_promise():
    scenes = [sample_scene(0, index, SIZE) for index in range(300)]
    counts = [int(scene.layers) for scene in scenes]
    assert min(counts) == 2
    assert max(counts) == LAYERS
    assert 0.1 < np.mean([scene.shutter > 0 for scene in scenes]) < 0.3
    assert np.mean([scene.waves[:, :, :2].any() for scene in scenes]) > 0.2
    for scene in scenes:
        assert all(np.isfinite(field).all() for field in scene)
        # The smooth displacement does not fold: its slope stays below one.
        slopes = np.linalg.norm(scene.waves[..., :2], axis=-1) * np.linalg.norm(scene.waves[..., 2:4], axis=-1)
        assert slopes.sum(axis=-1).max() <= 0.51
        assert (np.abs(np.linalg.det(scene.motion)) > 0.3).all()


def test_without_photometric_effects_there_are_none():
    scene = sample_scene(0, 0, SIZE, photometric=False)
    assert scene.shutter == scene.noise == scene.quantisation == 0
    assert not scene.blur.any()
    np.testing.assert_array_equal(scene.light, np.tile([[1], [0], [1]], (2, 1, 3)))


def test_banks(banks):
    assert banks.textures.shape == (TEXTURES, SIDE, SIDE, 3)
    assert banks.shapes.shape == (SHAPES, SIDE, SIDE)
    assert (banks.shapes[0] == 255).all()
    assert (banks.shapes[1:, 0] == 0).all()  # no outline touches its picture's edge
    covered = (banks.shapes[1:] > 127).mean(axis=(1, 2))
    assert covered.min() > 0.02
    # Textures repeat: the step across the seam is no larger than the steps elsewhere.
    steps = np.abs(np.diff(banks.textures.astype(float), axis=2)).mean(axis=(1, 3)).max(axis=1)
    seam = np.abs(banks.textures[:, :, 0].astype(float) - banks.textures[:, :, -1]).mean(axis=(1, 2))
    assert (seam < 1.5 * steps + 2).all()
    assert banks.noise.std() == pytest.approx(32, abs=1)
