import functools

import jax
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.mesh import make_mesh, put_batch
from tests.train.tiny import random_batch, tiny_pretraining, tiny_state

KEY = jax.random.key(0)


def run_steps(accumulate: int, devices: int, steps: int = 2):
    """Losses and the last parameters of motion masking with stored flow."""
    mesh = make_mesh(devices=jax.devices()[:devices])
    pretraining = tiny_pretraining(flow="tvl1", accumulate=accumulate)
    step = jax.jit(pretraining.step, donate_argnums=0)
    state, losses = tiny_state(pretraining, mesh), []
    for number in range(steps):
        state, metrics = step(state, {}, put_batch(random_batch(number, flow=True), mesh), KEY)
        losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params)


whole_batch = functools.cache(functools.partial(run_steps, 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("accumulate", "devices"), [(2, 1), (4, 2)])
def test_parts_and_devices_change_nothing(accumulate: int, devices: int):
    losses, params = run_steps(accumulate, devices)
    want_losses, want_params = whole_batch()
    np.testing.assert_allclose(losses, want_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), params, want_params)


@pytest.mark.parametrize("mask", [{"strategy": "tube"}, {"base_frame": "random", "exposure": 1.0}, {"warp": "forward"}])
def test_the_loss_and_its_gradient_promote_no_type(mask):
    pretraining = tiny_pretraining(flow="tvl1", **mask)
    params = jax.eval_shape(pretraining.init, KEY).params
    batch = random_batch(0, flow=True)
    if mask.get("base_frame") == "random":
        batch["flow"] = np.stack([batch["flow"]] * 2, axis=1)
    with jax.numpy_dtype_promotion("strict"):
        loss, grads = jax.eval_shape(
            jax.value_and_grad(pretraining.loss), params, (batch, jax.random.split(KEY, 8)), {}
        )
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, grads))} == {np.dtype("float32")}


def test_the_batch_must_divide_into_the_parts():
    pretraining = tiny_pretraining(accumulate=3, strategy="tube")
    state = jax.eval_shape(pretraining.init, KEY)
    with pytest.raises(ConfigError, match=r"config\.train\.accumulate=3: give a divisor of the 8 clips"):
        jax.eval_shape(pretraining.step, state, {}, random_batch(0), KEY)


def test_every_clip_has_a_mask_of_its_own_that_changes_with_the_step():
    pretraining = tiny_pretraining(strategy="tube")
    step, mesh = jax.jit(pretraining.loss), make_mesh(devices=jax.devices()[:1])
    params = tiny_state(pretraining, mesh).params
    one = random_batch(0, clips=1)
    keys = jax.random.split(KEY, 4)
    losses = {float(step(params, (one, keys[index : index + 1]), {})) for index in range(4)}
    assert len(losses) == 4
    again = float(step(params, ({"clip": np.repeat(one["clip"], 4, 0)}, keys), {}))
    np.testing.assert_allclose(again, np.mean(list(losses)), rtol=1e-5)


def test_a_reconstruction_keeps_the_visible_cubes_and_fills_the_others():
    pretraining = tiny_pretraining(strategy="tube")
    params = tiny_state(pretraining, make_mesh(devices=jax.devices()[:1])).params
    clip = random_batch(0)["clip"][0]
    details, shown = jax.jit(pretraining.reconstruct)(params, {}, clip, None, KEY)
    visible = np.asarray(details.volume) > 0
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[visible], clip[visible])
    assert (np.asarray(shown)[~visible] != clip[~visible]).mean() > 0.9
