"""End-point error of the published weights on pairs with true flow, against the official program's figures."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.flow.clip_flow import pair_flow
from tests.shared_data import shared


def read_frame(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def read_flo(path):
    data = path.read_bytes()
    assert data[:4] == b"PIEH"
    width, height = np.frombuffer(data, "<i4", 2, offset=4)
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)


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
    clip = jnp.asarray(np.stack([read_frame(root / name) for name in frames]))
    flow = jax.jit(functools.partial(pair_flow, iters=12))(
        published_params, clip, np.array([0], np.int32), np.array([1], np.int32)
    )
    truth = read_flo(root / truth)
    known = (np.abs(truth) < 1e8).all(axis=-1)
    error = np.linalg.norm(np.asarray(flow[0]) - truth, axis=-1)[known].mean()
    assert error == pytest.approx(expected, abs=0.01)
