"""The flow of each pair both ways, for `mask.occlusion`: from RAFT in the step, and from the batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.clip_flow import clip_flow
from mgmae_jax.flow.packed import PackedFlow
from mgmae_jax.flow.raft import init_params
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.plan.work import batch_shapes
from mgmae_jax.train.clips import flow_spec
from mgmae_jax.train.masks import FlowOptions, MaskStep, build_mask_step
from mgmae_jax.train.pretrain import build_pretraining
from tests.train.tiny import random_batch

GRID = TokenGrid(4, 32, 32, patch=8)
KEY = jax.random.key(3)
FIELDS = [
    "--config.clip.frames=4", "--config.clip.size=32", "--config.model.patch=8", "--config.mask.ratio=0.5",
    "--config.mask.occlusion=consistency",
]  # fmt: skip


def masks_of(source: str, **mask: Any) -> MaskStep:
    return MaskStep(GRID, MaskOptions(ratio=0.5, occlusion="consistency", **mask), FlowOptions(source))


@pytest.mark.parametrize("base", ["middle", "random"])
@pytest.mark.parametrize("source", ["dis", "codec"])
def test_flow_that_comes_with_the_batch_is_taken_both_ways(source: str, base: str):
    masks = masks_of(source, base_frame=base)
    ahead = 1 + jnp.arange(3, dtype=jnp.float32).reshape(3, 1, 1, 1)
    if source == "codec":
        span = jnp.stack([jnp.broadcast_to(ahead, (3, 1, 1, 2)), jnp.zeros((3, 1, 1, 2))], 2).reshape(3, 2, 2)
        place = jnp.array([[0.5, 32.0]] * 2)
        given: Any = PackedFlow(jnp.zeros((2, 3, 34, 34, 2), jnp.uint8), jnp.stack([span, -span]), place)
    else:
        dense = jnp.broadcast_to(ahead, (3, 32, 32, 2))
        given = jnp.stack([dense, -dense])
    flow = np.asarray(masks.flow_of({}, KEY, jnp.zeros((4, 32, 32, 3), jnp.uint8), given))
    assert flow.shape == (6, 32, 32, 2)
    np.testing.assert_allclose(flow[3:], -flow[:3])
    found = int(masks.details({}, KEY, jnp.zeros((4, 32, 32, 3), jnp.uint8), given).base)
    first, last = neighbour_pairs(4, found)
    np.testing.assert_allclose(flow[:3, 5, 7, 0], (last - first) * np.float32([1, 2, 3]))


def test_a_batch_is_masked_with_it():
    masks = masks_of("dis")
    flow = jnp.zeros((8, 2, 3, 32, 32, 2)).at[:, 0, :, 8:24, 8:24].set(jnp.array([6.0, 0.0]))
    still = {**random_batch(0), "flow": flow}
    keys = jax.random.split(jax.random.key(0), 8)
    consistent = still | {"flow": flow.at[:, 1].set(-flow[:, 0])}
    step = jax.jit(masks)
    assert (step({}, still, keys).visible != step({}, consistent, keys).visible).any()


def test_workers_are_asked_for_both_ways_and_plans_know_it():
    for source in ("dis", "codec", "stored"):
        config = load_config("pretrain/common", [*FIELDS, f"--config.flow.source={source}"])
        spec = flow_spec(config, build_mask_step(config))
        assert spec is not None
        assert spec.base is None
        assert batch_shapes(config, build_pretraining(config, 8))["flow"].shape[1:3] == (2, 3)
        config.mask.strategy = "moving_blocks"
        spec = flow_spec(config, build_mask_step(config))
        assert spec is not None
        assert spec.base == 2


def test_whole_frames_have_flow_one_way():
    config = load_config("pretrain/common", [*FIELDS, "--config.clip.size=64", "--config.flow.whole_frame=true"])
    with pytest.raises(ConfigError, match=r"config\.mask\.occlusion='consistency': give none with flow\.whole_frame"):
        build_mask_step(config)


@pytest.mark.slow
def test_raft_computes_the_other_way_as_it_does_the_one():
    clip = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8))
    params = init_params(jax.random.key(0))
    flow = {
        way: np.asarray(
            jax.jit(lambda way=way: clip_flow(params, clip, 1, iters=1, direction=way, points=(8, 8), scan=True))()
        )
        for way in ("to_base", "from_base")
    }
    both = jax.jit(lambda: clip_flow(params, clip, 1, iters=1, points=(8, 8), both_ways=True, scan=True))()
    np.testing.assert_allclose(both, np.concatenate([flow["to_base"], flow["from_base"]]), atol=1e-4)
