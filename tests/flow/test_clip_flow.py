import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import _low_flow, _of_clip, clip_flow
from mgmae_jax.flow.raft import RaftSmall
from mgmae_jax.ops.sampling import pixel_grid, sample_bilinear

FRAMES = 3


def moving_noise(height, width, frames=FRAMES, step=(2, 0), seed=0, radius=3):
    """Blurred noise that moves by `step` (x, y) pixels a frame, uint8 [T, H, W, 3]."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    for axis in (0, 1):
        noise = sum(np.roll(noise, shift, axis) for shift in range(-radius, radius + 1))
    noise = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    return jnp.asarray(np.stack([np.roll(noise, (i * step[1], i * step[0]), (0, 1)) for i in range(frames)]))


@functools.partial(jax.jit, static_argnames=("base", "iters", "size", "direction"))
def flow_of(params, clip, base=1, iters=1, size=None, direction="to_base"):
    return clip_flow(params, clip, base, iters=iters, size=size, direction=direction)


@functools.partial(jax.jit, static_argnames="iters")
def traced_base_flow(params, clip, base, iters=1):
    return clip_flow(params, clip, base, iters=iters)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 100)])
def test_any_size_from_64_works(random_params, height, width):
    flow = flow_of(random_params, moving_noise(height, width))
    assert flow.shape == (FRAMES - 1, height, width, 2)
    assert flow.dtype == jnp.float32
    assert jnp.isfinite(flow).all()
    assert jnp.abs(flow).max() > 0


def test_published_weights_see_the_motion_and_its_direction(published_params):
    # Frame 0 goes forwards to the base frame 1, frame 2 backwards.
    flow = traced_base_flow(published_params, moving_noise(96, 128, step=(3, -1)), jnp.int32(1), iters=6)
    np.testing.assert_allclose(jnp.median(flow, axis=(1, 2)), [[3, -1], [-3, 1]], atol=0.3)


def test_a_traced_base_gives_what_a_static_one_gives(random_params):
    clip = moving_noise(64, 64)
    np.testing.assert_array_equal(traced_base_flow(random_params, clip, jnp.int32(1)), flow_of(random_params, clip, 1))


def test_directions_are_those_of_neighbour_pairs(random_params):
    clip = moving_noise(64, 64)
    forth, back = (traced_base_flow(random_params, clip, jnp.int32(base)) for base in (2, 0))
    expected = {"from_base": [back[0], forth[1]], "to_earlier": [back[0], back[1]]}
    for direction, flow in expected.items():
        np.testing.assert_allclose(flow_of(random_params, clip, direction=direction), jnp.stack(flow), atol=1e-5)


def test_a_batch_by_vmap_equals_one_by_one(random_params):
    clips = jnp.stack([moving_noise(64, 64, seed=seed) for seed in range(2)])
    bases = jnp.array([0, 2], jnp.int32)
    batch = jax.jit(jax.vmap(functools.partial(clip_flow, iters=1), in_axes=(None, 0, 0)))(random_params, clips, bases)
    for clip, base, flow in zip(clips, bases, batch, strict=True):
        np.testing.assert_allclose(flow, traced_base_flow(random_params, clip, base), atol=1e-4)


def test_the_accelerators_branch_equals_the_cpu_branch(random_params):
    # 8 frames of 72x104 make two parts on a CPU, of 6 and 2 frames.
    images = moving_noise(72, 104, frames=8).astype(jnp.float32) / 127.5 - 1
    source, target = jnp.arange(7, dtype=jnp.int32), jnp.arange(1, 8, dtype=jnp.int32)
    cpu, accelerator = (
        jax.jit(functools.partial(_low_flow, raft=RaftSmall(), iters=1, for_cpu=for_cpu))(
            random_params, images, source, target
        )
        for for_cpu in (True, False)
    )
    assert cpu.shape == (7, 9, 13, 2)
    np.testing.assert_allclose(cpu, accelerator, atol=1e-4)


def test_no_gradient_flows_through_clip_flow(random_params):
    clip = moving_noise(64, 64)
    gradient = jax.jit(jax.grad(lambda params: clip_flow(params, clip, 1, iters=1).sum()))(random_params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_bfloat16_stays_close_and_returns_float32(random_params):
    clip = moving_noise(64, 64)
    flow = jax.jit(functools.partial(clip_flow, base=1, iters=1, dtype=jnp.bfloat16))(random_params, clip)
    exact = flow_of(random_params, clip)
    assert flow.dtype == jnp.float32
    assert 0 < jnp.abs(flow - exact).mean() < 0.1 * jnp.abs(exact).mean()


def test_flow_computed_on_other_frames_is_in_pixels_of_the_clip(published_params):
    flow = flow_of(published_params, moving_noise(144, 192, step=(8, 4), radius=6), iters=6, size=96)
    assert flow.shape == (FRAMES - 1, 144, 192, 2)
    np.testing.assert_allclose(jnp.median(flow, axis=(1, 2)), [[8, 4], [-8, -4]], atol=0.5)


def test_too_small_frames_are_named(random_params):
    with pytest.raises(ConfigError, match=r"config\.clip\.size=\(63, 80\): give 64 pixels"):
        clip_flow(random_params, moving_noise(63, 80), 1)
    with pytest.raises(ConfigError, match=r"config\.flow\.size=56: give 64 pixels"):
        clip_flow(random_params, moving_noise(64, 64), 1, size=56)


@pytest.mark.parametrize(
    ("inner", "sides", "points"),
    [
        ((64, 64), (64, 64), (8, 8)),
        ((64, 64), (112, 112), (14, 14)),  # at a smaller size than the clip's
        ((68, 100), (68, 100), (17, 50)),  # padded on both sides
    ],
)
def test_flow_read_at_points_is_what_upsampling_gives_there(inner, sides, points):
    cells = [-(-side // 8) for side in inner]
    y, x = np.meshgrid(*map(np.arange, cells), indexing="ij")
    low = np.stack([np.sin(x / 3) + y / 9, np.cos(y / 4) - x / 7], axis=-1)[None].astype(np.float32)
    dense = _of_clip(jnp.asarray(low), inner, sides, None)[0]
    spacing = jnp.array([sides[1] / points[1], sides[0] / points[0]]).reshape(1, 1, 2)
    where = (pixel_grid(*points) + 0.5) * spacing - 0.5
    expected = jnp.stack([sample_bilinear(dense[..., axis], where) for axis in (0, 1)], axis=-1)
    read = _of_clip(jnp.asarray(low), inner, sides, points)[0]
    assert read.shape == (*points, 2)
    assert float(jnp.abs(read - expected).max()) < 0.1  # pixels, of flow that reaches 20


def test_the_masks_points_are_asked_of_the_network(random_params):
    clip = moving_noise(64, 64)
    dense = flow_of(random_params, clip)
    read = jax.jit(lambda params, clip: clip_flow(params, clip, 1, iters=1, points=(8, 8)))(random_params, clip)
    middles = dense.reshape(FRAMES - 1, 8, 8, 8, 8, 2)[:, :, 3:5, :, 3:5].mean(axis=(2, 4))
    np.testing.assert_allclose(read, middles, atol=0.05 * float(jnp.abs(dense).max()))
