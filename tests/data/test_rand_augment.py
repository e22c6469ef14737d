import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data.rand_augment import OPERATIONS, RandAugment, apply_operations
from mgmae_jax.errors import ConfigError

RECIPE = RandAugment.parse("rand-m7-n4-mstd0.5-inc1")


def noise(seed: int = 0, height: int = 24, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def one(name: str, strength: float, sign: int = 1, image: np.ndarray | None = None) -> np.ndarray:
    image = noise() if image is None else image
    return apply_operations(image[None], [(name, strength, sign)])[0]


@given(seed=st.integers(0, 10**6))
def test_all_frames_of_a_clip_are_changed_by_the_same_parameters(seed: int):
    still = np.stack([noise(seed)] * 3)
    changed = RECIPE(still, np.random.default_rng(seed))
    assert (changed.shape, changed.dtype) == (still.shape, np.uint8)
    np.testing.assert_array_equal(changed, changed[:1].repeat(3, 0))


def test_a_moving_clip_is_changed_frame_by_frame_alike():
    clip = np.stack([noise(seed) for seed in range(4)])
    changed = RECIPE(clip, np.random.default_rng(5))
    drawn = RECIPE.draw(np.random.default_rng(5))
    assert drawn
    for frame, want in zip(clip, changed, strict=True):
        np.testing.assert_array_equal(apply_operations(frame[None], drawn)[0], want)


def test_half_of_the_operations_are_carried_out_with_the_recipes_magnitude():
    rng = np.random.default_rng(0)
    drawn = [operation for _ in range(2000) for operation in RECIPE.draw(rng)]
    assert len(drawn) == pytest.approx(2000 * 4 / 2, rel=0.05)
    names, strengths, signs = zip(*drawn, strict=True)
    counts = [names.count(name) for name in OPERATIONS]
    assert sum(counts) == len(drawn)
    assert min(counts) > 0.8 * np.mean(counts)
    assert np.mean(strengths) == pytest.approx(0.7, abs=0.01)
    assert np.std(strengths) == pytest.approx(0.05, abs=0.005)
    assert np.mean(signs) == pytest.approx(0, abs=0.06)


# What timm's definitions give at magnitude 7, worked out by hand.
def test_value_operations():
    image = noise().astype(int)
    np.testing.assert_array_equal(one("invert", 0.7), 255 - image)
    np.testing.assert_array_equal(one("posterize", 0.7), image // 64 * 64)  # 4 - int(2.8) = 2 bits
    np.testing.assert_array_equal(one("solarize", 0.7), np.where(image < 256 - 179, image, 255 - image))
    np.testing.assert_array_equal(one("solarize_add", 0.7), np.where(image < 128, np.minimum(image + 77, 255), image))
    np.testing.assert_allclose(one("brightness", 0.7, -1), image * 0.37, atol=1)


def test_enhancing_goes_both_ways():
    dark, bright = one("brightness", 0.7, -1).mean(), one("brightness", 0.7).mean()
    assert dark < noise().mean() < bright
    assert one("contrast", 0.7, -1).std() < noise().std() < one("contrast", 0.7).std()


def test_moving_operations():
    row = np.tile(np.arange(40, dtype=np.uint8)[None, :, None] * 5, (24, 1, 3))
    moved = one("translate_x", 0.7, image=row)  # by 0.45 * 0.7 * 40 = 12.6 pixels
    np.testing.assert_allclose(moved[:, 2:25, 0].astype(float), row[:, 2:25, 0] + 12.6 * 5, atol=1.5)
    assert (moved[:, 29:] == 128).all()
    column = row.swapaxes(0, 1)
    np.testing.assert_array_equal(one("translate_y", 0.7, image=column), moved.swapaxes(0, 1))
    sheared = one("shear_x", 0.5, image=row)  # x + 0.15 y
    np.testing.assert_allclose(sheared[20, 5:30, 0].astype(float) - sheared[0, 5:30, 0], 0.15 * 20 * 5, atol=2)
    assert np.array_equal(one("rotate", 0.0, image=row), row)
    assert not np.array_equal(one("rotate", 0.7, 1, row), one("rotate", 0.7, -1, row))


@pytest.mark.parametrize("text", ["m7-n4", "rand-m7", "rand-m11-n4-inc1", "rand-m7-n4-mstd0.5", "rand-m7-n4-inc1-w0"])
def test_other_text_is_an_error(text: str):
    with pytest.raises(ConfigError, match=f"config.augment.rand='{text}'"):
        RandAugment.parse(text)


def test_the_spread_may_be_left_out():
    assert RandAugment.parse("rand-m9-n2-inc1") == RandAugment(9, 2, 0)
