import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.errors import ConfigError
from mgmae_jax.train.mixing import Mixing, MixOptions, draw_mixing, mix_clips, soft_labels

SIDE = (24, 40)
MIXUP, CUTMIX = MixOptions(cutmix=0.0), MixOptions(mixup=0.0)


def draw(options: MixOptions, count: int = 2000) -> Mixing:
    return jax.vmap(lambda key: draw_mixing(key, options, *SIDE))(jax.random.split(jax.random.key(0), count))


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    share=st.floats(0, 1, width=32),
    smoothing=st.floats(0, 0.9375, width=32),
)
def test_labels_keep_their_mass(labels: list[int], share: float, smoothing: float):
    labels = jnp.array(labels, jnp.int32)
    target = soft_labels(labels, labels[::-1], share, 7, smoothing)
    np.testing.assert_allclose(target.sum(1), 1, rtol=1e-6)
    assert target.min() >= 0
    # What is no label of either keeps the smoothing alone.
    others = np.ones(target.shape, bool)
    for row, pair in enumerate(zip(labels, labels[::-1], strict=True)):
        others[row, list(pair)] = False
    np.testing.assert_allclose(np.asarray(target)[others], smoothing / 7, atol=1e-6)


@given(seed=st.integers(0, 10**6), options=st.sampled_from([MIXUP, CUTMIX, MixOptions(), MixOptions(prob=0.5)]))
def test_a_label_has_the_share_that_its_pixels_have(seed: int, options: MixOptions):
    mixing = draw_mixing(jax.random.key(seed), options, *SIDE)
    ones, zeros = jnp.ones((1, 2, *SIDE, 3)), jnp.zeros((1, 2, *SIDE, 3))
    mixed = mix_clips(ones, zeros, mixing)
    np.testing.assert_allclose(mixed.mean(), mixing.share, atol=1e-5)
    np.testing.assert_allclose(mixed + mix_clips(zeros, ones, mixing), 1, atol=1e-6)
    np.testing.assert_array_equal(mixed[:, 0], mixed[:, 1])  # the same in every frame


def test_mixup_draws_the_recipes_shares():
    mixing = draw(MIXUP)
    np.testing.assert_array_equal(mixing.share, mixing.blend)
    assert not np.asarray(mixing.box[:, 1] - mixing.box[:, 0]).any()
    want = np.random.default_rng(0).beta(0.8, 0.8, 2000)
    places = [0.1, 0.3, 0.5]
    np.testing.assert_allclose(np.quantile(mixing.share, places), np.quantile(want, places), atol=0.05)


def test_cutmix_draws_boxes_of_the_recipes_area_inside_the_frame():
    mixing = draw(CUTMIX)
    top, bottom, left, right = np.asarray(mixing.box).T
    assert (mixing.blend == 1).all()
    assert ((top >= 0) & (top <= bottom) & (bottom <= 24) & (left >= 0) & (left <= right) & (right <= 40)).all()
    np.testing.assert_allclose(mixing.share, 1 - (bottom - top) * (right - left) / 960, atol=1e-6)
    # Boxes in the middle of the frame have its shape.
    whole = (top > 0) & (bottom < 24) & (left > 0) & (right < 40)
    np.testing.assert_allclose(((right - left) / 40)[whole], ((bottom - top) / 24)[whole], atol=0.1)


def test_the_switch_chooses_between_the_two_and_prob_leaves_batches_alone():
    cases = (MixOptions(), 0.5, 0.0), (MixOptions(switch=0.2), 0.2, 0.0), (MixOptions(prob=0.3), 0.15, 0.7)
    for options, cut, alone in cases:
        mixing = draw(options)
        is_cut, is_mixed = mixing.blend == 1, mixing.share < 1
        # A cutmix box may be empty, of which there are few.
        assert np.mean(is_cut) == pytest.approx(cut + alone, abs=0.04)
        assert np.mean(~is_mixed) == pytest.approx(alone, abs=0.04)


def test_without_either_no_batch_is_mixed():
    assert not MixOptions(mixup=0, cutmix=0).mixes
    assert not MixOptions(prob=0).mixes
    assert MixOptions(mixup=0).mixes


@pytest.mark.parametrize(
    ("field", "value"), [("mixup", -1.0), ("cutmix", float("inf")), ("prob", 1.5), ("switch", -0.1), ("smoothing", 1.0)]
)
def test_wrong_values_name_the_field(field: str, value: float):
    with pytest.raises(ConfigError, match=rf"config\.mix\.{field}={value}"):
        MixOptions(**{field: value})
