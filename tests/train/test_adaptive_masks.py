"""Masks that depend on the clip, the model or parameters of their own, inside the pre-training step."""

import jax
import numpy as np
import pytest

from mgmae_jax.runtime.mesh import abstract_on, make_mesh, make_on, put_batch, put_replicated
from tests.train.tiny import random_batch, tiny_pretraining

KEY = jax.random.key(0)
MASKS = {
    "motion_energy": {"temperature": 0.5},
    "frame_difference": {"prefer": "hidden"},
    "everest": {"keep": 0.8},
    "adamae": {"loss_weight": 1.0},
    "multi_block": {},
}


@pytest.mark.parametrize("strategy", MASKS)
def test_the_loss_and_its_gradient_promote_no_type(strategy):
    pretraining = tiny_pretraining(flow="tvl1", strategy=strategy, **MASKS[strategy])
    params = jax.eval_shape(pretraining.init, KEY).params
    examples = random_batch(0, flow=True), jax.random.split(KEY, 8)
    loss, grads = jax.eval_shape(jax.value_and_grad(pretraining.loss), params, examples, {})
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, grads))} == {np.dtype("float32")}


def run(strategy: str, devices: int, steps: int = 2):
    """Losses, and parameters before and after some steps, with the parameters split over the devices."""
    mesh = make_mesh(devices, devices=jax.devices()[:devices])
    pretraining = tiny_pretraining(flow="tvl1", strategy=strategy, **MASKS[strategy])
    key = put_replicated(KEY, mesh)
    state = make_on(abstract_on(mesh, pretraining.init, KEY), pretraining.init, key)
    before, losses, step = jax.device_get(state.params), [], jax.jit(pretraining.step)
    for number in range(steps):
        state, metrics = step(state, {}, put_batch(random_batch(number, flow=True), mesh), key)
        losses.append(float(metrics["loss"]))
    return losses, before, jax.device_get(state.params)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["everest", "adamae"])
def test_devices_change_nothing(strategy):
    (losses, _, params), (want_losses, before, want) = run(strategy, 2), run(strategy, 1)
    if strategy == "adamae":
        for tree in (before, params, want):
            for layer in ("fc2", "head"):
                tree["mask"][layer].pop("bias")  # they shift every score alike, so that their gradient is rounding
        moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before["mask"], want["mask"])
        assert min(jax.tree.leaves(moved)) > 1e-6
    np.testing.assert_allclose(losses, want_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), params, want)
