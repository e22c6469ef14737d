"""Pre-training with activations in half precision: it learns as float32 does, and nothing promotes them on the way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from mgmae_jax.ops.tokens import TokenSplit
from mgmae_jax.runtime.mesh import make_mesh, put_batch
from mgmae_jax.train.pretrain import Pretraining
from tests.train.tiny import random_batch, tiny_pretraining, tiny_state

KEY = jax.random.key(0)


def pretraining_in(dtype: str) -> Pretraining:
    whole = tiny_pretraining(strategy="tube", rate=3e-3)
    return dataclasses.replace(whole, model=whole.model.clone(dtype=jnp.dtype(dtype)))


def learn(dtype: str):
    """The losses of eight steps on a batch of noisy ramps, and the state after them."""
    mesh, pretraining = make_mesh(devices=jax.devices()[:1]), pretraining_in(dtype)
    ramp = np.arange(32, dtype=np.uint8)
    batch = put_batch({"clip": random_batch(0)["clip"] // 8 + 3 * (ramp[:, None, None] + ramp[:, None])}, mesh)
    step, state, losses = jax.jit(pretraining.step, donate_argnums=0), tiny_state(pretraining, mesh), []
    for _ in range(8):
        state, metrics = step(state, {}, batch, KEY)
        losses.append(float(metrics["loss"]))
    return losses, state


def test_it_learns_as_float32_does():
    (half, state), (whole, _) = learn("bfloat16"), learn("float32")
    assert np.isfinite(half).all()
    assert half[-1] < 0.9 * half[0]
    np.testing.assert_allclose(half, whole, rtol=1e-3)
    assert half != whole  # it did compute in half precision
    kept = [leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state)) if leaf.ndim]
    assert set(kept) == {np.dtype("float32")}


@pytest.mark.parametrize("remat", [False, True])
def test_every_layer_returns_half_precision(remat: bool):
    model = pretraining_in("bfloat16").model.clone(remat=remat)
    some = jnp.zeros((2, 16), jnp.int32)
    cubes = jnp.zeros((2, 16, model.grid.cube_values))

    def returned(key: jax.Array) -> dict:
        apply = model.init_with_output(key, cubes, TokenSplit(some, some), capture_intermediates=True, mutable=True)
        return apply[1]["intermediates"]

    found, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(returned, KEY))
    names = {jax.tree_util.keystr(path[:-2], simple=True, separator="/"): leaf.dtype for path, leaf in found}
    assert {"encoder/blocks/block_0/attn", "encoder/blocks/block_0/mlp", "decoder/blocks/block_0"} <= names.keys()
    # The prediction alone, which is compared with the target, is float32.
    assert {name for name, dtype in names.items() if dtype != jnp.bfloat16} == {"", "decoder"}


def products(jaxpr: core.Jaxpr) -> list[tuple[str, ...]]:
    """The dtypes of the operands of every product of matrices."""
    found = [
        tuple(str(operand.aval.dtype) for operand in equation.invars)
        for equation in jaxpr.eqns
        if equation.primitive.name == "dot_general"
    ]
    inner = [jaxpr for equation in jaxpr.eqns for jaxpr in core.jaxprs_in_params(equation.params)]
    return found + [product for jaxpr in inner for product in products(jaxpr)]


def test_every_product_of_the_loss_is_of_half_precision():
    pretraining = pretraining_in("bfloat16")
    params = jax.eval_shape(pretraining.init, KEY).params
    jaxpr = jax.make_jaxpr(pretraining.loss)(params, (random_batch(0), jax.random.split(KEY, 8)), {})
    found = products(jaxpr.jaxpr)
    assert len(found) > 10
    assert set(found) == {("bfloat16", "bfloat16")}
