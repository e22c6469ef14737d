from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.variants import Variant
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, normalise_cubes, patchify, take_tokens
from tests.official_params import official_params

GRID = TokenGrid(8, 64, 64)
MODEL = MaskedAutoencoder(Variant(48, 3, 3, 192, 24, 2), GRID, decoder_depth=2)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "golden" / "mae_pretrain_tiny.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def params(golden):
    return official_params({name[2:]: array for name, array in golden.items() if name[:2] == "w:"})


@pytest.fixture(scope="module")
def cubes(golden) -> jax.Array:
    """Of the normalised clip."""
    return patchify(jnp.asarray(golden["clip"].transpose(0, 2, 3, 4, 1)), GRID)


@pytest.fixture(scope="module")
def split(golden) -> TokenSplit:
    return split_of(~golden["mask"], golden["mask"])


def split_of(visible: np.ndarray, target: np.ndarray) -> TokenSplit:
    return TokenSplit(*(jnp.asarray([np.flatnonzero(row) for row in rows], jnp.int32) for rows in (visible, target)))


def predict(params, cubes, split, model=MODEL) -> jax.Array:
    return model.apply({"params": params}, take_tokens(cubes, split.visible), split)


def target_of(cubes: jax.Array, split: TokenSplit) -> jax.Array:
    repeats = GRID.cube_values // 3
    std, mean = (np.tile(channel, repeats).reshape(1, 1, -1) for channel in (IMAGENET_STD, IMAGENET_MEAN))
    pixels = cubes * std + mean
    return take_tokens(normalise_cubes(pixels), split.target)


def assert_close(got: jax.Array, want: np.ndarray) -> None:
    """To 1e-5 of the largest value."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_target_is_the_official_one(golden, cubes):
    every = np.ones_like(golden["mask"])
    assert_close(target_of(cubes, split_of(every, every)), golden["target"])


def mean_square(prediction, target):
    return jnp.square(prediction - target).mean()


def test_latent_prediction_and_loss_are_the_official_ones(golden, params, cubes, split):
    seen = take_tokens(cubes, split.visible)
    latent = MODEL.apply({"params": params}, seen, split.visible, method=lambda model, *args: model.encoder(*args))
    assert_close(latent, golden["latent"])
    prediction = predict(params, cubes, split)
    assert_close(prediction, golden["prediction"])
    assert_close(mean_square(prediction, target_of(cubes, split)), golden["loss"])


def test_targets_need_not_be_the_hidden_tokens(golden, params, cubes):
    """The official decoder masking: it decodes some tokens, visible ones among them, and measures those it hid."""
    split = split_of(~golden["mask"], ~golden["decode_mask"])
    prediction = predict(params, cubes, split)
    assert_close(prediction, golden["prediction_dual"])
    measured = np.take_along_axis(golden["mask"], np.asarray(split.target), axis=1)
    target = target_of(cubes, split)
    assert_close(mean_square(prediction[measured][None], target[measured][None]), golden["loss_dual"])


def test_bfloat16_keeps_float32_parameters_and_gives_nearly_the_same_prediction(params, cubes, split):
    half = MODEL.clone(dtype=jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):  # Flax's LayerNorm takes its statistics in float32 by promotion
        fresh = jax.eval_shape(half.init, jax.random.key(0), take_tokens(cubes, split.visible), split)
        got = predict(params, cubes, split, half)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    want = predict(params, cubes, split)
    assert got.dtype == jnp.float32
    difference = np.abs(got - want)
    assert difference.max() > 0  # it did compute in half precision
    assert difference.mean() < 0.02 * np.abs(want).mean()


def test_remat_changes_neither_loss_nor_gradients(params, cubes, split):
    target = target_of(cubes, split)

    def grad(model):
        return jax.jit(jax.value_and_grad(lambda params: mean_square(predict(params, cubes, split, model), target)))

    again = grad(MODEL.clone(remat=True))
    (loss, grads), (loss_again, grads_again) = grad(MODEL)(params), again(params)
    np.testing.assert_allclose(loss_again, loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), grads_again, grads)
    assert "remat" in str(again.trace(params).jaxpr)
    assert "remat" not in str(grad(MODEL).trace(params).jaxpr)


def test_the_prediction_of_a_target_does_not_depend_on_the_order_of_the_tokens(params, cubes, split):
    turned = TokenSplit(split.visible[:, ::-1], split.target[:, ::-1])
    np.testing.assert_allclose(
        predict(params, cubes, turned)[:, ::-1], predict(params, cubes, split), rtol=1e-4, atol=1e-5
    )
