"""What the camera does to a synthetic frame."""

import numpy as np
import pytest

from mgmae_jax.datasets.flow_pairs.banks import make_banks
from mgmae_jax.datasets.flow_pairs.camera import develop
from mgmae_jax.datasets.flow_pairs.pair import draw_pair
from mgmae_jax.datasets.flow_pairs.scene import sample_scene

SIZE = 64
PLAIN = sample_scene(0, 0, SIZE, photometric=False)


@pytest.fixture(scope="module")
def banks():
    return make_banks(0)


def developed(scene, light, banks, frame=0):
    light = np.broadcast_to(np.asarray(light, np.float32), (SIZE, SIZE, 3))
    return develop(np, scene, light, banks.noise, frame)


def test_the_noise_of_both_frames_matches_nowhere(banks):
    scene = PLAIN._replace(noise=np.float32(8), noise_offset=np.array([[10, 20], [14, 9]]))
    one, two = (developed(scene, 128, banks, frame) - 128 for frame in range(2))
    assert 7 < one.std() < 9
    overlap = one[4:, :-11], two[:-4, 11:]  # where the second would be the first one, moved
    assert abs(np.corrcoef(*(part.ravel() for part in overlap))[0, 1]) < 0.1


@pytest.mark.parametrize("offset", [(0, 0), (3, 5)])
def test_compression_leaves_what_is_flat_and_rounds_the_rest_in_blocks(banks, offset):
    scene = PLAIN._replace(quantisation=np.float32(2), block_offset=np.array([offset, offset]))
    assert (developed(scene, 128, banks) == 128).all()
    steps = np.abs(np.diff(developed(scene, banks.textures[0][:SIZE, :SIZE], banks).mean(axis=-1), axis=0)).mean(axis=1)
    borders = np.arange(SIZE - 1) % 8 == (offset[0] - 1) % 8
    assert steps[borders].mean() > 1.2 * steps[~borders].mean()


def test_colours_fade_and_brightness_stays(banks):
    light = np.array([200.0, 100.0, 50.0])
    grey = developed(PLAIN._replace(saturation=np.float32(0)), light, banks)
    assert np.ptp(grey[0, 0]) <= 1
    assert abs(grey[0, 0, 0] - light @ [0.299, 0.587, 0.114]) < 1
    np.testing.assert_array_equal(developed(PLAIN, light, banks)[0, 0], light)


def test_blur_softens_and_keeps_the_mean(banks):
    light = banks.textures[0][:SIZE, :SIZE].astype(np.float32)
    pictures = [developed(PLAIN._replace(blur=np.full(2, blur, np.float32)), light, banks) for blur in (0, 1, 2)]
    sharpness = [np.abs(np.diff(picture, axis=1)).mean() for picture in pictures]
    assert sharpness[0] > 1.2 * sharpness[1] > 1.2 * sharpness[2]
    assert np.ptp([picture.mean() for picture in pictures]) < 1


def test_a_frame_is_exposed_around_its_time(banks):
    """So that it does not matter which way things move."""
    there, back = np.tile(np.eye(3, dtype=np.float32), (2, *PLAIN.motion.shape[:1], 1, 1))
    there[:, :2, 2], back[:, :2, 2] = (24, 8), (-24, -8)
    scene = PLAIN._replace(shutter=np.float32(0.5))
    one, two = (draw_pair(banks, scene._replace(motion=motion), SIZE).image1.astype(float) for motion in (there, back))
    still = draw_pair(banks, scene._replace(motion=there, shutter=np.float32(0)), SIZE).image1.astype(float)
    assert np.abs(one - two).mean() < 1
    assert np.abs(one - still).mean() > 2
