"""The published weights on a real clip, against the official program's flow and the paper's masks."""

import jax
import jax.numpy as jnp
import numpy as np

from mgmae_jax.flow.raft import upsample_flow
from mgmae_jax.masking.base_map import gaussian_mixture
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.masking.motion import select_visible, warp_volume
from mgmae_jax.masking.select import frame_scores, token_scores
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid

GRID = TokenGrid(16, 224, 224)
OPTIONS = MaskOptions()


def visible_tokens(volume):
    tokens = np.sort(np.asarray(select_visible(jax.random.key(0), GRID, volume, OPTIONS)).reshape(8, 19), axis=1)
    return tokens - np.arange(8)[:, None] * GRID.per_tubelet


def volume_of(centres, flow):
    start = gaussian_mixture(jnp.asarray(centres), GRID, 16.0)
    return warp_volume(start, GRID, flow, 8, jax.random.key(0), OPTIONS)


def test_the_pairs_are_those_of_the_official_run(real_clip):
    source, target = neighbour_pairs(16, 8)
    np.testing.assert_array_equal(source, real_clip["source_frame"])
    np.testing.assert_array_equal(target, real_clip["target_frame"])


def test_flow_agrees_to_a_fiftieth_of_a_pixel(real_clip, real_clip_flow):
    reference = np.asarray(upsample_flow(jnp.asarray(real_clip["flow_low_iters6"])))
    np.testing.assert_allclose(real_clip_flow, reference, atol=0.02, rtol=0)
    np.testing.assert_allclose(real_clip_flow[7], real_clip["flow_up_iters6_frame7"], atol=0.02, rtol=0)
    np.testing.assert_allclose(real_clip_flow[14], real_clip["flow_up_iters6_frame15"], atol=0.02, rtol=0)


def test_upsampling_agrees(real_clip):
    upsampled = upsample_flow(jnp.asarray(real_clip["flow_low_iters6"]))
    np.testing.assert_allclose(upsampled[7], real_clip["flow_up_iters6_frame7"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(upsampled[14], real_clip["flow_up_iters6_frame15"], atol=1e-4, rtol=0)


def test_masks_given_the_flow_are_exact(real_clip):
    flow = upsample_flow(jnp.asarray(real_clip["flow_low_iters6"]))
    for centres, scores, visible in zip(
        real_clip["centers_yx"], real_clip["token_scores"], real_clip["visible_tokens"], strict=True
    ):
        volume = volume_of(centres, flow)
        np.testing.assert_allclose(token_scores(frame_scores(volume, GRID), GRID), scores, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(visible_tokens(volume), visible)


def test_masks_given_only_the_frames_agree_in_99_of_100_tokens(real_clip, real_clip_flow):
    same = [
        np.isin(mine, theirs).mean()
        for centres, visible in zip(real_clip["centers_yx"], real_clip["visible_tokens"], strict=True)
        for mine, theirs in zip(visible_tokens(volume_of(centres, real_clip_flow)), visible, strict=True)
    ]
    assert np.mean(same) >= 0.99
