import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.masking.volume import visibility_volume

FRAMES, HEIGHT, WIDTH = 6, 6, 10
FILLS = ["tube", "random", "invisible", "visible", "previous"]
STATIC = ("base", "warp", "hole_fill", "ratio", "zero_is_hole")
volume_of = jax.jit(visibility_volume, static_argnames=STATIC)
KEY = jax.random.key(0)
MAP = jax.random.uniform(jax.random.key(1), (HEIGHT, WIDTH), minval=0.1)


def constant_flow(*xy):
    """One (x, y) for each pair of frames, at every pixel."""
    return jnp.broadcast_to(jnp.array(xy, jnp.float32)[:, None, None], (len(xy), HEIGHT, WIDTH, 2))


@pytest.mark.parametrize("warp", ["backward", "forward"])
@pytest.mark.parametrize("fill", FILLS)
def test_no_motion_repeats_the_base_map(warp, fill):
    volume = volume_of(MAP, constant_flow(*[(0, 0)] * (FRAMES - 1)), 2, KEY, warp=warp, hole_fill=fill)
    np.testing.assert_array_equal(volume, jnp.broadcast_to(MAP, (FRAMES, HEIGHT, WIDTH)))


@pytest.mark.parametrize("base", range(FRAMES))
def test_the_base_frame_keeps_its_map_and_the_others_are_carried_outwards(base):
    # The scene moves 1 pixel right and 2 up (y falls) every frame; the flow leads back towards the base frame.
    towards = [(1, -2) if pair < base else (-1, 2) for pair in range(FRAMES - 1)]
    volume = np.asarray(volume_of(MAP, constant_flow(*towards), base, KEY, hole_fill="invisible"))
    np.testing.assert_array_equal(volume[base], MAP)
    for frame in range(FRAMES):
        right, down = frame - base, -2 * (frame - base)
        expected = np.zeros((HEIGHT, WIDTH), np.float32)
        for i, j in np.ndindex(HEIGHT, WIDTH):
            if 0 <= i - down < HEIGHT and 0 <= j - right < WIDTH:
                expected[i, j] = MAP[i - down, j - right]
        np.testing.assert_allclose(volume[frame], expected, atol=1e-6)


@pytest.mark.parametrize("warp", ["backward", "forward"])
def test_a_traced_base_gives_what_a_static_one_gives(warp):
    flow = jax.random.normal(KEY, (FRAMES - 1, HEIGHT, WIDTH, 2)) * 2
    traced = jax.jit(functools.partial(visibility_volume, warp=warp))
    for base in (0, 3, FRAMES - 1):
        expected = volume_of(MAP, flow, base, KEY, warp=warp)
        np.testing.assert_array_equal(traced(MAP, flow, jnp.int32(base), KEY), expected)
        np.testing.assert_array_equal(expected[base], MAP)


# Away from base frame 0: one pixel left, then far out of the frame.
AWAY = constant_flow((1, 0), (1e6, 1e6), (1e6, 1e6))
AWAY_FORWARD = constant_flow((-1, 0), (1e6, 1e6), (1e6, 1e6))


@pytest.mark.parametrize(("warp", "flow"), [("backward", AWAY), ("forward", AWAY_FORWARD)])
def test_holes_get_what_the_filling_says(warp, flow):
    fill = {name: np.asarray(volume_of(MAP, flow, 0, KEY, warp=warp, hole_fill=name)) for name in FILLS}
    for volume in fill.values():
        np.testing.assert_allclose(volume[1, :, :-1], MAP[:, 1:], atol=1e-6)
    edge = np.s_[1, :, -1]
    np.testing.assert_array_equal(fill["tube"][edge], MAP[:, -1])
    np.testing.assert_array_equal(fill["previous"][edge], MAP[:, -1])
    np.testing.assert_array_equal(fill["visible"][edge], MAP.max())
    np.testing.assert_array_equal(fill["invisible"][edge], 0)
    np.testing.assert_array_equal(fill["tube"][2:], jnp.stack([MAP] * 2))
    np.testing.assert_array_equal(fill["previous"][2:], np.stack([fill["previous"][1]] * 2))
    np.testing.assert_array_equal(fill["visible"][2:], MAP.max())
    np.testing.assert_array_equal(fill["invisible"][2:], 0)
    assert set(np.unique(fill["random"][2:]).tolist()) == {0.0, float(MAP.max())}


def test_random_filling_shows_the_share_that_is_not_hidden_anew_in_every_frame():
    flow = constant_flow(*[(1e6, 1e6)] * 40)
    one = volume_of(MAP, flow, 0, KEY, hole_fill="random", ratio=0.75)[1:] > 0
    # 2400 draws: standard deviation 0.009.
    assert one.mean() == pytest.approx(0.25, abs=0.04)
    assert len(np.unique(np.asarray(one).reshape(40, -1), axis=0)) == 40
    assert (one != (volume_of(MAP, flow, 0, jax.random.key(9), hole_fill="random", ratio=0.75)[1:] > 0)).any()


def test_the_released_rule_takes_zeros_for_holes():
    half = MAP.at[:, : WIDTH // 2].set(0.0)
    flow = constant_flow((0, 0))
    assert volume_of(half, flow, 0, KEY, hole_fill="visible")[1, 0, 0] == 0
    volume = volume_of(half, flow, 0, KEY, hole_fill="visible", zero_is_hole=True)
    assert (volume[1, :, : WIDTH // 2] == half.max()).all()
    np.testing.assert_array_equal(volume[1, :, WIDTH // 2 :], half[:, WIDTH // 2 :])
    # A source half a pixel outside is a hole by the paper's rule, but not a zero.
    flow = constant_flow((0.5, 0))
    assert volume_of(MAP, flow, 0, KEY, hole_fill="invisible")[1, 0, -1] == 0
    volume = volume_of(MAP, flow, 0, KEY, hole_fill="invisible", zero_is_hole=True)
    assert volume[1, 0, -1] == pytest.approx(float(MAP[0, -1]) / 2)
