"""RAFT-small against the official program with the same random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.flow.correlation import correlation_pyramid, lookup_by_gather
from mgmae_jax.flow.raft import HIDDEN, RaftSmall, init_params, upsample_flow
from mgmae_jax.ops.sampling import pixel_grid
from tests.shared_data import shared

RAFT = RaftSmall()


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, -3, -1))


@pytest.fixture(scope="module")
def maps(raft_golden, random_params):
    """Features of image 1 and 2, and the context of image 1."""

    @jax.jit
    def encode(params, images):
        features = RAFT.apply({"params": params}, images, method="features")
        return features, RAFT.apply({"params": params}, images, method="context")

    images = jnp.concatenate([channels_last(raft_golden["image1"]), channels_last(raft_golden["image2"])])
    features, context = encode(random_params, images)
    return features[:1], features[1:], context[:1]


@functools.partial(jax.jit, static_argnames=("iters", "for_cpu", "dtype"))
def refine(params, maps, iters, for_cpu, dtype=jnp.float32):
    options = {"iters": iters, "for_cpu": for_cpu, "method": "refine"}
    return RaftSmall(dtype).apply({"params": params}, *maps, **options)


def test_parameters_are_float32_and_as_many_as_the_papers():
    params = jax.eval_shape(init_params, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 990_162
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_features_and_context_agree(maps):
    with np.load(shared("golden/raft_small.npz")) as full:
        np.testing.assert_allclose(maps[0], channels_last(full["fmap1"][:1]), atol=1e-4, rtol=0)
        np.testing.assert_allclose(maps[1], channels_last(full["fmap2"][:1]), atol=1e-4, rtol=0)
        np.testing.assert_allclose(maps[2], channels_last(full["cnet"][:1]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("for_cpu", [False, True])
@pytest.mark.parametrize("iters", [1, 6, 12])
def test_flow_agrees_to_a_thousandth_of_a_pixel(raft_golden, random_params, maps, iters, for_cpu):
    low = refine(random_params, maps, iters, for_cpu)
    reference = channels_last(raft_golden[f"flow_low_iters{iters}"])
    assert jnp.abs(reference).max() > 0.1
    np.testing.assert_allclose(low * 8, reference * 8, atol=1e-3, rtol=0)


@pytest.mark.parametrize("iters", [1, 6, 12])
def test_upsampled_flow_agrees(iters):
    with np.load(shared("golden/raft_small.npz")) as full:
        upsampled = upsample_flow(channels_last(full[f"flow_low_iters{iters}"]))
        np.testing.assert_allclose(upsampled, channels_last(full[f"flow_up_iters{iters}"]), atol=1e-4, rtol=0)


def test_call_is_encode_and_refine(raft_golden, random_params):
    image1, image2 = channels_last(raft_golden["image1"]), channels_last(raft_golden["image2"])
    low = jax.jit(lambda params: RAFT.apply({"params": params}, image1, image2, iters=1))(random_params)
    np.testing.assert_allclose(low, channels_last(raft_golden["flow_low_iters1"]), atol=1e-4, rtol=0)


def test_bfloat16_stays_close_and_returns_float32(random_params, maps):
    low = refine(random_params, [x.astype(jnp.bfloat16) for x in maps], 6, False, jnp.bfloat16)
    exact = refine(random_params, maps, 6, False)
    assert low.dtype == jnp.float32
    error = jnp.linalg.norm(low - exact, axis=-1) * 8
    length = jnp.linalg.norm(exact, axis=-1) * 8
    assert 0 < error.mean() < 0.1 * length.mean()


def test_the_update_is_not_saturated_at_first():
    """What a gate saturates cannot be learned from: the hidden state of one that is stays at -1 and 1."""
    rng = np.random.default_rng(0)
    image = jax.image.resize(jnp.asarray(rng.normal(size=(1, 24, 24, 3)), jnp.float32), (1, 96, 96, 3), "cubic")
    image = jnp.tanh(image)

    @jax.jit
    def hidden(params):
        def update(raft):
            features, context = raft.features(image), raft.context(image)
            hidden = jnp.tanh(context[..., :HIDDEN])
            window = lookup_by_gather(correlation_pyramid(features, features), pixel_grid(12, 12)[None])
            motion = raft.motion_encoder(window, jnp.zeros((1, 12, 12, 2)))
            return raft.gru(hidden, raft.gru.context_part(jax.nn.relu(context[..., HIDDEN:])), motion)

        return RAFT.apply({"params": params}, method=update)

    assert (jnp.abs(hidden(init_params(jax.random.key(0)))) > 0.9).mean() < 0.05
