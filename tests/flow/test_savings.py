"""What RAFT does once instead of many times changes no flow: each saving against the plain form, to 1e-4 pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.flow.clip_flow import grid_flow
from mgmae_jax.flow.raft import CELL, CONTEXT, HIDDEN, ConvGRU, RaftSmall
from mgmae_jax.ops.apply import apply_module

ITERS = 3
CELLS = 1e-4 / CELL  # flow is in cells of 8 pixels


@pytest.fixture(scope="module")
def frames():
    """Four frames of blurred noise that moves."""
    noise = np.random.default_rng(0).normal(size=(64, 72, 3))
    for axis in (0, 1):
        noise = sum(np.roll(noise, shift, axis) for shift in range(-2, 3))
    noise = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    return jnp.asarray(np.stack([np.roll(noise, (-i, 2 * i), (0, 1)) for i in range(4)]))


@pytest.fixture(scope="module")
def pairs():
    return jnp.array([0, 1, 3], jnp.int32), jnp.array([1, 2, 2], jnp.int32)


@pytest.fixture(scope="module")
def pair_by_pair(random_params, frames, pairs):
    """Flow of each pair on its own: both frames encoded for it, all updates of it."""
    images = frames.astype(jnp.float32) * jnp.float32(2 / 255) - 1
    call = jax.jit(functools.partial(apply_module, RaftSmall(), random_params, iters=ITERS))
    return jnp.concatenate([call(images[a][None], images[b][None]) for a, b in zip(*pairs, strict=True)])


@pytest.mark.parametrize("scan", [False, True], ids=["cpu", "accelerator"])
def test_frames_encoded_once(random_params, frames, pairs, pair_by_pair, scan):
    flow = jax.jit(functools.partial(grid_flow, iters=ITERS, scan=scan))(random_params, frames, *pairs)
    assert jnp.abs(pair_by_pair).max() > 0.1
    np.testing.assert_allclose(flow, pair_by_pair, atol=CELLS)


@pytest.mark.parametrize("for_cpu", [True, False])
def test_flow_of_the_last_update_alone(random_params, for_cpu):
    rng = np.random.default_rng(1)
    maps = [jnp.asarray(rng.normal(size=(2, 8, 9, channels)), jnp.float32) for channels in (128, 128, HIDDEN + CONTEXT)]
    refine = functools.partial(
        apply_module, RaftSmall(), random_params, *maps, method="refine", iters=ITERS, for_cpu=for_cpu
    )
    last, each = jax.jit(lambda: (refine(), refine(every=True)))()
    assert each.shape == (ITERS, *last.shape)
    assert jnp.abs(each[-1] - each[-2]).max() > 100 * CELLS
    np.testing.assert_allclose(last, each[-1], atol=CELLS)


def test_the_context_is_convolved_once(random_params):
    """One update of the GRU by convolutions of all its input at once, as in RAFT's program."""
    rng = np.random.default_rng(2)
    hidden, context, motion = (
        jnp.asarray(rng.normal(size=(1, 8, 9, channels)), jnp.float32) for channels in (HIDDEN, CONTEXT, 82)
    )
    gru = functools.partial(apply_module, ConvGRU(jnp.float32), random_params["gru"])
    found = gru(hidden, gru(context, method="context_part"), motion)
    assert jnp.abs(found - hidden).max() > 0.1

    def gate(name, first):
        kernel, bias = (random_params["gru"][name][part] for part in ("kernel", "bias"))
        x = jnp.concatenate([first, context, motion], axis=-1)
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) + bias.reshape(
            1, 1, 1, -1
        )

    update, reset = (jax.nn.sigmoid(gate(name, hidden)) for name in ("update", "reset"))
    expected = (1 - update) * hidden + update * jnp.tanh(gate("candidate", reset * hidden))
    np.testing.assert_allclose(found, expected, atol=1e-5)
