"""The released mask code's numbers on given flows."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.masking.base_map import gaussian_maximum, gaussian_mixture, token_centres
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.masking.motion import select_visible, warp_volume
from mgmae_jax.masking.select import frame_scores, token_scores
from mgmae_jax.masking.warp import warp_backward
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid
from tests.shared_data import shared

GRID = TokenGrid(8, 96, 96)
PIXELS = 2 * 16 * 16
COMMITTED = Path(__file__).parents[1] / "golden/mask_volume.npz"
with np.load(COMMITTED) as arrays:
    VARIANTS = [name[5:] for name in arrays.files if name.startswith("mask:")]


@pytest.fixture(scope="module", params=["one clip", "all clips"])
def golden(request):
    with np.load(COMMITTED if request.param == "one clip" else shared("golden/mask_volume.npz")) as arrays:
        return dict(arrays)


@functools.partial(jax.jit, static_argnames=("base", "options"))
def select(start, flow, base, options):
    key = jax.random.key(0)
    volume = warp_volume(start, GRID, flow, base, key, options)
    return select_visible(key, GRID, volume, options), token_scores(frame_scores(volume, GRID), GRID)


def test_every_variant_is_here():
    assert len(VARIANTS) == 10


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_and_scores(golden, variant):
    official, base = variant.startswith("official"), 0 if variant.endswith("base_first") else 4
    options = MaskOptions(
        ratio=0.75,
        preset="released_code",
        hole_fill="tube" if "consist" in variant else "invisible",
        select="clip" if variant.endswith("clip") else "tubelet",
    )
    # "paper_direction" is the released code with the flow the right way round before the base frame.
    pairs = np.transpose(neighbour_pairs(8, base, options.direction if official else "to_base"))
    for clip, expected in enumerate(golden[f"mask:{variant}"]):
        flow = np.stack([np.moveaxis(golden[f"flow:{i}->{j}"][clip], 0, -1) for i, j in pairs])
        visible, scores = select(golden["init_max"][clip], flow, base, options)
        masked = np.ones(GRID.tokens, bool)
        masked[visible] = False
        np.testing.assert_array_equal(masked, expected)
        if f"scores:{variant}" in golden:
            np.testing.assert_allclose(scores * PIXELS, golden[f"scores:{variant}"][clip], rtol=1e-5, atol=1e-5)


def test_one_warp(golden):
    # The released code's sampler moves 95/96 of the flow.
    flow = jnp.asarray(np.moveaxis(golden["flow:3->4"][0], 0, -1) * np.float32(95 / 96))
    warped, _ = warp_backward(jnp.asarray(golden["init_max"][0]), flow)
    np.testing.assert_allclose(warped, golden["one_warp"][0, 0], atol=1e-5, rtol=0)


def test_base_maps(golden):
    for positions, expected in zip(golden["init_positions"], golden["init_max"], strict=True):
        centres = token_centres(jnp.asarray(positions @ [GRID.columns, 1]), GRID)
        np.testing.assert_allclose(gaussian_maximum(centres, GRID, 16.0), expected, atol=1e-6, rtol=0)
    centres = token_centres(jnp.asarray(golden["init_positions"][0] @ [GRID.columns, 1]), GRID)
    # Its sum has no 1/2 in the exponent either, and is divided by its maximum.
    total = gaussian_mixture(centres, GRID, 16 / 2**0.5)
    np.testing.assert_allclose(total / total.max(), golden["init_sum_b0"], atol=1e-6, rtol=0)
