"""VideoMAE V2's dual masking through the trainer: the official numbers, parts, guesses and pictures."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.masking.mask_input import DecoderMask, MaskInput, MaskOptions, Strategy
from mgmae_jax.masking.strategies import DECODERS, STRATEGIES
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.variants import Variant
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.ops.tokens import TokenGrid, patchify
from mgmae_jax.runtime.mesh import make_mesh, put_batch
from mgmae_jax.train.baselines import guess_errors, guess_moments
from mgmae_jax.train.masks import FlowOptions, MaskStep
from mgmae_jax.train.pretrain import Pretraining
from tests.official_params import official_params
from tests.train.tiny import random_batch, tiny_pretraining, tiny_state

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 8)
# Half of the tokens are visible, three quarters decoded.
DUAL = {"decoder": "running_cell", "decoder_ratio": 0.25}


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "golden/mae_pretrain_tiny.npz") as arrays:
        return dict(arrays)


class MasksOfFloats(MaskStep):
    """For a clip that is not made of bytes; the masks do not look at it."""

    def ask(self, params, clips, flow, keys):
        return super().ask(params, jnp.zeros(clips.shape, jnp.uint8), flow, keys)


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Pretraining:
    """The official model with the official masks: clip i's are those of the key of data (0, i)."""
    hidden, undecoded = golden()["mask"], golden()["decode_mask"]

    def those_of(table: np.ndarray, ask: MaskInput) -> jax.Array:
        indices = np.stack([np.flatnonzero(row) for row in table]).astype(np.int32)
        return jnp.asarray(indices)[jax.random.key_data(ask.key)[1]]

    monkeypatch.setitem(STRATEGIES, "tube", Strategy(functools.partial(those_of, ~hidden)))
    unchecked = DecoderMask(functools.partial(those_of, ~undecoded), lambda grid, options: None)
    monkeypatch.setitem(DECODERS, "running_cell", unchecked)
    grid = TokenGrid(8, 64, 64)
    masks = MasksOfFloats(grid, MaskOptions("tube", 0.75, decoder="running_cell"), FlowOptions("none"))
    model = MaskedAutoencoder(Variant(48, 3, 3, 192, 24, 2), grid, decoder_depth=2)
    return dataclasses.replace(tiny_pretraining(strategy="tube"), model=model, masks=masks)


def test_prediction_and_loss_are_the_official_ones(official: Pretraining, monkeypatch: pytest.MonkeyPatch):
    params = official_params({name[2:]: array for name, array in golden().items() if name[:2] == "w:"})
    monkeypatch.setattr("mgmae_jax.train.pretrain.unit_range", lambda pixels: pixels)
    clip = jnp.asarray(golden()["clip"].transpose(0, 2, 3, 4, 1) * IMAGENET_STD + IMAGENET_MEAN)
    keys = jax.random.wrap_key_data(jnp.asarray([[0, 0], [0, 1]], jnp.uint32))
    seen = []

    def keep(module, variables, *args):
        seen.append(module.apply({"params": variables}, *args))
        return seen[-1]

    monkeypatch.setattr("mgmae_jax.train.pretrain.apply_module", keep)
    loss, weight = official.loss_and_weight(params, ({"clip": clip}, keys), {})
    want = golden()["prediction_dual"]
    np.testing.assert_allclose(seen[0], want, rtol=0, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(loss, golden()["loss_dual"], rtol=1e-5)
    assert float(weight) == (golden()["mask"] & ~golden()["decode_mask"]).sum()


def dual_loss(pretraining: Pretraining, params, batch, keys) -> float:
    """By its definition, from the masks and the model: the sum over a batch, divided by the count."""
    grid, masks = pretraining.grid, pretraining.masks
    split = jax.jit(masks)({}, batch, keys)
    cubes = patchify(jnp.asarray(batch["clip"]), grid).astype(jnp.float32) / 255
    mean, std = (np.tile(values, grid.cube_values // 3) for values in (IMAGENET_MEAN, IMAGENET_STD))
    total, count = 0.0, 0
    for clip in range(len(keys)):
        visible, target = split.visible[clip], split.target[clip]
        seen = ((cubes[clip][visible] - mean[None]) / std[None])[None]
        one = jax.tree.map(lambda index, clip=clip: index[clip][None], split)
        prediction = pretraining.model.apply({"params": params}, seen, one)[0]
        pixels = np.asarray(cubes[clip][target], np.float64).reshape(len(target), -1, 3)
        wanted = (pixels - pixels.mean(1, keepdims=True)) / (pixels.std(1, ddof=1, keepdims=True) + 1e-6)
        errors = np.square(prediction - wanted.reshape(len(target), -1)).mean(-1)
        hidden = ~np.isin(target, visible)
        total, count = total + errors[hidden].sum(), count + hidden.sum()
    return float(total / count)


@pytest.mark.parametrize("mask", [{"warp": "trajectory"}, {"strategy": "frame"}], ids=str)
def test_the_loss_is_over_what_is_hidden_and_decoded(mask: dict):
    pretraining = tiny_pretraining(flow="tvl1", **DUAL, **mask)
    params, batch = jax.device_get(tiny_state(pretraining).params), random_batch(0, flow=True, clips=2)
    loss, weight = jax.jit(pretraining.loss_and_weight)(params, (batch, KEYS[:2]), {})
    assert float(loss) == pytest.approx(dual_loss(pretraining, params, batch, KEYS[:2]), rel=1e-5)
    assert 0 < weight < pretraining.grid.tokens


def run_steps(accumulate: int, devices: int):
    mesh = make_mesh(devices=jax.devices()[:devices])
    pretraining = tiny_pretraining(accumulate=accumulate, strategy="random", **DUAL)
    state, losses = tiny_state(pretraining, mesh), []
    step = jax.jit(pretraining.step, donate_argnums=0)
    for number in range(2):
        state, metrics = step(state, {}, put_batch(random_batch(number), mesh), KEY)
        losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params)


@pytest.mark.slow
def test_parts_and_devices_change_nothing_where_counts_differ():
    pretraining = tiny_pretraining(strategy="random", **DUAL)
    split = jax.jit(pretraining.masks)({}, random_batch(0), KEYS)
    counts = np.asarray(pretraining.masks.measured(split)).sum(axis=1)
    assert len(set(counts.tolist())) > 1  # a mean of means would not do
    losses, params = run_steps(1, 1)
    for accumulate, devices in ((4, 1), (2, 2)):
        again, others = run_steps(accumulate, devices)
        np.testing.assert_allclose(again, losses, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), others, params)


def test_the_loss_and_its_gradient_promote_no_type():
    pretraining = tiny_pretraining(strategy="tube", **DUAL)
    params = jax.eval_shape(pretraining.init, KEY).params
    with jax.numpy_dtype_promotion("strict"):
        loss, grads = jax.eval_shape(jax.value_and_grad(pretraining.loss), params, (random_batch(0), KEYS), {})
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, grads))} == {np.dtype("float32")}


def test_all_hidden_tokens_have_no_weights():
    pretraining = tiny_pretraining(strategy="tube")
    params = jax.device_get(tiny_state(pretraining).params)
    _, weight = jax.eval_shape(pretraining.loss_and_weight, params, (random_batch(0), KEYS), {})
    assert weight is None


def test_a_reconstruction_shows_what_was_not_decoded_in_grey():
    pretraining = tiny_pretraining(strategy="tube", **DUAL)
    params = jax.device_get(tiny_state(pretraining).params)
    clip = random_batch(0)["clip"][0]
    details, shown = jax.jit(pretraining.reconstruct)(params, {}, clip, None, KEY)
    grid, split = pretraining.grid, details.split
    cubes, before = (np.asarray(patchify(jnp.asarray(clips), grid)) for clips in (shown, clip))
    np.testing.assert_array_equal(cubes[split.visible], before[split.visible])
    predicted = np.setdiff1d(split.target, split.visible)
    neither = np.setdiff1d(np.arange(grid.tokens), np.union1d(split.target, split.visible))
    assert len(neither) > 0
    assert len(predicted) > 0
    assert (cubes[neither] == 128).all()
    assert (cubes[predicted] != before[predicted]).mean() > 0.9
    assert (cubes[predicted] != 128).mean() > 0.9


def test_guesses_are_measured_where_the_loss_is():
    pretraining = tiny_pretraining(strategy="random", **DUAL)
    params = jax.device_get(tiny_state(pretraining).params)
    parts, losses, counts = [], [], []
    for step in range(2):
        batch, keys = random_batch(step, clips=2), jax.random.split(jax.random.key(step), 2)
        moments = jax.jit(functools.partial(guess_moments, pretraining))(params, {}, batch, keys)
        loss, count = jax.jit(pretraining.loss_and_weight)(params, (batch, keys), {})
        parts.append(jax.device_get(moments))
        losses.append(float(loss))
        counts.append(float(count))
    errors = guess_errors(parts)
    assert errors["network"] == pytest.approx(np.average(losses, weights=counts), rel=1e-5)
    # The mean of all hidden cubes that are decoded, of noise: all but their common mean is left.
    assert errors["mean_cube"] == pytest.approx(1.0, abs=0.1)
