import cv2
import numpy as np
import pytest

from mgmae_jax.datasets.motion_shapes.texture import (
    OUTLINES,
    cloud_texture,
    gradient_texture,
    muted_colours,
    outline_mask,
    power_noise,
    vivid_colours,
)

BLACK_AND_WHITE = (np.zeros(3), np.full(3, 255.0))


def test_noise_is_standardised_and_smoother_for_a_larger_exponent():
    rough, smooth = (power_noise(np.random.default_rng(0), 64, exponent=exponent) for exponent in (0.5, 2.0))
    for noise in (rough, smooth):
        assert noise.mean() == pytest.approx(0.0, abs=1e-9)
        assert noise.std() == pytest.approx(1.0)
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()


def local_contrast(image: np.ndarray, window: int) -> np.ndarray:
    """Standard deviation around each pixel."""
    return np.sqrt(np.maximum(cv2.blur(image**2, (window, window)) - cv2.blur(image, (window, window)) ** 2, 0.0))


@pytest.mark.parametrize("seed", range(8))
def test_clouds_tile_without_a_seam(seed):
    tile = cloud_texture(np.random.default_rng(seed), 96, BLACK_AND_WHITE, 96.0)
    assert tile.dtype == np.float32
    assert 0 <= tile.min() < 60 < 200 < tile.max() <= 255
    assert tile.mean() == pytest.approx(127.5, abs=25)
    for axis in (0, 1):
        steps = np.abs(np.diff(tile, axis=axis)).mean(axis=(1 - axis, 2))
        seam = np.abs(np.take(tile, 0, axis) - np.take(tile, -1, axis)).mean()
        assert seam <= 1.5 * steps.max()


@pytest.mark.parametrize("seed", range(4))
def test_gradients_run_from_one_colour_to_the_other(seed):
    tile = gradient_texture(np.random.default_rng(seed), 51, BLACK_AND_WHITE, radius=22.0)
    assert tile.dtype == np.float32
    assert 0 <= tile.min() < 40 < 215 < tile.max() <= 255
    y, x = np.nonzero(np.hypot(*(np.mgrid[:51, :51] - 25)) <= 22)
    plane = np.stack([x - 25.0, y - 25.0, np.ones(len(x))], axis=-1)
    value = tile[y, x, 0]
    residual = value - plane @ np.linalg.lstsq(plane, value, rcond=None)[0]
    assert residual.var() < 0.15 * value.var()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "texture",
    [
        lambda rng: cloud_texture(rng, 128, BLACK_AND_WHITE, 128.0),
        lambda rng: gradient_texture(rng, 128, BLACK_AND_WHITE, radius=64.0),
    ],
    ids=["cloud", "gradient"],
)
def test_large_scales_dominate_and_detail_is_everywhere(texture, seed):
    grey = np.ascontiguousarray(texture(np.random.default_rng(seed))[..., 0])
    large = cv2.blur(grey, (9, 9))
    assert large.std() > 5 * (grey - large).std()
    # A tenth of what the whole varies by is plenty for a flow estimator; none at all would leave motion unseen.
    assert local_contrast(grey - large, 17).min() > 1.5


def test_colours_of_a_pair_differ():
    for seed in range(16):
        dark, light = muted_colours(np.random.default_rng(seed))
        assert light.max() - dark.max() > 50
        dark, bright = vivid_colours(np.random.default_rng(seed))
        assert bright.max() - dark.max() > 50


@pytest.mark.parametrize("outline", OUTLINES)
def test_outlines_are_centred_and_reach_their_radius(outline):
    mask = outline_mask(outline, radius=20.0, size=51)
    y, x = np.nonzero(mask > 0.5)
    distance = np.hypot(y - 25, x - 25)
    assert 18 <= distance.max() <= 21
    assert mask[25, 25] == 1
    assert mask[0].max() == 0
    assert abs(y.mean() - 25) < 1
    assert abs(x.mean() - 25) < 1
