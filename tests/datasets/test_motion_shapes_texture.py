import numpy as np
import pytest

from mgmae_jax.datasets.motion_shapes_texture import OUTLINES, outline_mask, power_noise, texture


def test_noise_is_standardised_and_smoother_for_a_larger_exponent():
    rough, smooth = (power_noise(np.random.default_rng(0), 64, exponent=exponent) for exponent in (0.5, 2.0))
    for noise in (rough, smooth):
        assert noise.mean() == pytest.approx(0.0, abs=1e-9)
        assert noise.std() == pytest.approx(1.0)
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()


@pytest.mark.parametrize("seed", range(8))
def test_textures_tile_without_a_seam(seed):
    tile = texture(np.random.default_rng(seed), 96, (np.zeros(3), np.full(3, 255.0)), (12, 24))
    assert tile.dtype == np.float32
    assert 0 <= tile.min() < 60 < 200 < tile.max() <= 255
    for axis in (0, 1):
        steps = np.abs(np.diff(tile, axis=axis)).mean(axis=(1 - axis, 2))
        seam = np.abs(np.take(tile, 0, axis) - np.take(tile, -1, axis)).mean()
        assert seam <= 1.5 * steps.max()


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
