"""End-point error of the published weights on pairs with true flow, against the official program's figures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.data.flow_files import read_flow, read_image
from mgmae_jax.flow.clip_flow import pair_flow
from tests.shared_data import shared


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "frames", "truth", "expected"),
    [
        ("middlebury_RubberWhale", ["frame10.png", "frame11.png"], "flow10.flo", 0.320),
        ("flyingchairs_3", ["img0.ppm", "img1.ppm"], "gt.flo", 0.761),
        ("flyingchairs_5", ["img0.ppm", "img1.ppm"], "gt.flo", 1.537),
        ("sintel_alley_2_clean", ["frame_0024.png", "frame_0025.png"], "frame_0024.flo", 0.330),
    ],
)
def test_end_point_error_at_12_iterations(published_params, folder, frames, truth, expected):
    root = shared(f"flow_pairs/{folder}")
    clip = jnp.asarray(np.stack([read_image(root / name) for name in frames]))
    flow = jax.jit(functools.partial(pair_flow, iters=12))(
        published_params, clip, np.array([0], np.int32), np.array([1], np.int32)
    )
    truth, known = read_flow(root / truth)
    error = np.linalg.norm(np.asarray(flow[0]) - truth, axis=-1)[known].mean()
    assert error == pytest.approx(expected, abs=0.01)
