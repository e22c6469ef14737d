from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.flow.clip_flow import clip_flow
from mgmae_jax.interop.flow_weights import load_flow_weights
from mgmae_jax.interop.torch_raft import params_from_torch
from tests.shared_data import shared

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def raft_golden():
    with np.load(GOLDEN / "raft_small.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def random_params(raft_golden):
    weights = {name[2:]: array for name, array in raft_golden.items() if name.startswith("w:")}
    return jax.tree.map(jnp.asarray, params_from_torch(weights, "golden"))


@pytest.fixture(scope="session")
def published_params():
    return load_flow_weights(shared("raft/raft-small.pth"))


@pytest.fixture(scope="session")
def real_clip():
    with np.load(shared("golden/motion_masks_real_clip.npz")) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def real_clip_flow(real_clip, published_params):
    """Flow of the real clip by `clip_flow` at 6 iterations: the one large program of these tests, compiled once."""
    return jax.jit(lambda params, clip: clip_flow(params, clip, 8, iters=6))(published_params, real_clip["frames"])
