from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.models.classifier import Classifier
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.variants import Variant
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit
from tests.official_params import official_params

GRID = TokenGrid(8, 64, 64)
VARIANT = Variant(48, 3, 3, 192, 24, 2)
MODEL = Classifier(VARIANT, GRID, 7)
KEYS = jax.random.split(jax.random.key(3), 2)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "golden" / "vit_finetune_tiny.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def params(golden):
    tensors = {name[2:]: array for name, array in golden.items() if name[:2] == "w:"}
    return official_params(tensors)


@pytest.fixture(scope="module")
def clips(golden) -> jax.Array:
    """With pixels in [0, 1], nearly: the golden clip is noise."""
    pixels = golden["clip"].transpose(0, 2, 3, 4, 1)
    return jnp.asarray(pixels * IMAGENET_STD + IMAGENET_MEAN)


def test_features_and_logits_are_the_official_ones(golden, params, clips):
    features = MODEL.apply({"params": params}, clips, method="features")
    for got, want in ((features, golden["features"]), (MODEL.apply({"params": params}, clips), golden["logits"])):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_features_are_the_normalised_mean_of_the_tokens(params, clips):
    tokens = MODEL.apply({"params": params}, clips, method="tokens")
    assert tokens.shape == (2, GRID.tokens, 48)
    mean = tokens.mean(1)
    normed = (mean - mean.mean(-1, keepdims=True)) / np.sqrt(mean.var(-1, keepdims=True) + 1e-6)
    want = normed * params["fc_norm"]["scale"][None] + params["fc_norm"]["bias"][None]
    np.testing.assert_allclose(MODEL.apply({"params": params}, clips, method="features"), want, rtol=0, atol=1e-4)


def test_bytes_and_unit_range_are_the_same_input(params):
    clips = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 8, 64, 64, 3), np.uint8))
    logits = MODEL.apply({"params": params}, clips)
    np.testing.assert_allclose(MODEL.apply({"params": params}, clips.astype(jnp.float32) / 255), logits, atol=1e-5)


def test_the_tree_is_the_official_one_and_its_encoder_that_of_the_autoencoder(params, clips):
    fresh = jax.eval_shape(MODEL.init, KEYS[0], clips)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)
    cubes, split = jnp.zeros((1, 8, GRID.cube_values)), TokenSplit(*jnp.zeros((2, 1, 8), jnp.int32))
    trained = jax.eval_shape(MaskedAutoencoder(VARIANT, GRID, 1).init, KEYS[0], cubes, split)["params"]["encoder"]
    trained["blocks"].pop("norm")  # which the classifier leaves out
    assert trained == fresh["encoder"]


def test_the_head_begins_small(clips):
    head = MODEL.init(KEYS[0], clips)["params"]["head"]
    assert np.std(head["kernel"]) == pytest.approx(0.02 * 0.001, rel=0.1)
    assert not head["bias"].any()


def test_bfloat16_keeps_float32_parameters_features_and_logits(params, clips):
    half = MODEL.clone(dtype=jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):  # Flax's LayerNorm takes its statistics in float32 by promotion
        fresh = jax.eval_shape(half.init, KEYS[0], clips)
        features = half.apply({"params": params}, clips, method="features")
    assert {leaf.dtype for leaf in jax.tree.leaves((fresh, features))} == {jnp.dtype("float32")}
    want = MODEL.apply({"params": params}, clips, method="features")
    assert 0 < np.abs(features - want).mean() < 0.05 * np.abs(want).mean()


def test_without_keys_nothing_is_dropped(params, clips):
    dropping = MODEL.clone(drop_path=0.5, head_dropout=0.5)
    np.testing.assert_array_equal(dropping.apply({"params": params}, clips), MODEL.apply({"params": params}, clips))


def test_an_example_is_dropped_by_its_own_key(params, clips):
    dropping = MODEL.clone(drop_path=0.7, head_dropout=0.3)
    logits = dropping.apply({"params": params}, clips, KEYS, KEYS)
    assert not np.allclose(logits, MODEL.apply({"params": params}, clips), atol=1e-3)
    turned = dropping.apply({"params": params}, clips[::-1], KEYS[::-1], KEYS[::-1])
    np.testing.assert_allclose(turned[::-1], logits, atol=1e-5)


def test_remat_changes_no_logits(params, clips):
    again = MODEL.clone(remat=True, drop_path=0.3)
    want = MODEL.clone(drop_path=0.3).apply({"params": params}, clips, KEYS)
    np.testing.assert_allclose(again.apply({"params": params}, clips, KEYS), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("frames", "size"), [(16, 64), (8, 96), (4, 32)])
def test_a_clip_of_another_length_or_size_is_classified(params, frames: int, size: int):
    other = MODEL.clone(grid=TokenGrid(frames, size, size), trained_grid=GRID)
    logits = other.apply({"params": params}, jnp.full((1, frames, size, size, 3), 99, jnp.uint8))
    assert logits.shape == (1, 7)
    assert np.isfinite(logits).all()
