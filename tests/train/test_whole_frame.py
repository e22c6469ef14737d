"""The step with one flow for all views of a clip."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.raft import init_params
from mgmae_jax.flow.whole_frame import whole_frame_flow
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.runtime.mesh import make_mesh, put_batch, put_replicated
from mgmae_jax.train.baselines import guess_errors, guess_moments
from mgmae_jax.train.masks import FlowOptions, MaskStep
from tests.train.tiny import tiny_pretraining, tiny_state

CLIPS, VIEWS = 8, 2


@pytest.fixture(scope="module")
def flow_params():
    return jax.jit(init_params)(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (CLIPS, 4, 8, 8, 3), np.uint8).repeat(8, 2).repeat(8, 3)
    places = np.stack([rng.uniform(0, 0.3, (CLIPS * VIEWS, 2)), rng.uniform(0.5, 0.7, (CLIPS * VIEWS, 2))], -1)
    clips = rng.integers(0, 256, (CLIPS * VIEWS, 4, 64, 64, 3), np.uint8)
    return {"clip": clips, "whole": frames, "whole_place": places.astype(np.float32)}


def pretraining(accumulate=1):
    made = tiny_pretraining(size=64, flow="raft", accumulate=accumulate, warp="trajectory")
    options = dataclasses.replace(made.masks.flow, whole_frame=True)
    return dataclasses.replace(made, masks=dataclasses.replace(made.masks, flow=options))


def test_every_view_gets_its_part_on_the_device_where_it_is(flow_params, batch):
    masks, mesh = pretraining().masks, make_mesh()
    placed = put_replicated(flow_params, mesh), put_batch(batch, mesh)
    compiled = jax.jit(masks.share_flow).lower(*placed).compile()
    shared = compiled(*placed)
    assert set(shared) == {"clip", "flow"}
    assert shared["flow"].shape == (CLIPS * VIEWS, 3, 8, 8, 2)
    for exchange in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
        assert exchange not in compiled.as_text()
    clip = 5
    expected = whole_frame_flow(
        flow_params,
        jnp.asarray(batch["whole"][clip]),
        jnp.asarray(batch["whole_place"][VIEWS * clip : VIEWS * (clip + 1)]),
        2,
        iters=1,
        height=64,
        width=64,
        points=(8, 8),
    )
    assert jnp.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(shared["flow"][VIEWS * clip : VIEWS * (clip + 1)], expected, atol=1e-3)


@pytest.mark.slow
def test_the_step_is_the_same_in_parts(flow_params, batch):
    mesh = make_mesh()
    inputs = put_replicated(flow_params, mesh), put_batch(batch, mesh), jax.random.key(1)
    losses = [float(jax.jit(one.step)(tiny_state(one, mesh), *inputs)[1]["loss"]) for one in map(pretraining, (1, 2))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_batch_without_whole_frames_is_unchanged(batch):
    assert pretraining().masks.share_flow({}, {"clip": batch["clip"]}).keys() == {"clip"}


@pytest.mark.parametrize(
    ("flow", "mask", "message"),
    [
        ({"size": 100}, {}, r"config\.flow\.size=100: give a multiple of 8 from 64"),
        ({"size": 56}, {}, r"config\.flow\.size=56"),
        ({}, {"base_frame": "random"}, r"config\.mask\.base_frame='random': give middle or first"),
    ],
)
def test_what_does_not_go_together(flow, mask, message):
    grid = pretraining().grid
    with pytest.raises(ConfigError, match=message):
        MaskStep(grid, MaskOptions(ratio=0.5, **mask), FlowOptions(whole_frame=True, **flow))


def test_only_raft_sees_whole_frames():
    grid = pretraining().grid
    assert MaskStep(grid, MaskOptions(ratio=0.5), FlowOptions("dis", whole_frame=True)).whole_frame_side is None
    assert MaskStep(grid, MaskOptions(ratio=0.5), FlowOptions(whole_frame=True, size=72)).whole_frame_side == 72
    assert MaskStep(grid, MaskOptions(ratio=0.5), FlowOptions(whole_frame=True)).whole_frame_side == 64


def test_what_can_be_guessed_is_guessed_by_the_masks_that_are_trained_with(flow_params, batch):
    one = pretraining()
    shared = jax.jit(one.masks.share_flow)(flow_params, batch)
    keys = jax.random.split(jax.random.key(0), CLIPS * VIEWS)
    moments = jax.jit(lambda batch: guess_moments(one, None, flow_params, batch, keys))
    expected, found = (guess_errors([jax.device_get(moments(given))]) for given in (shared, batch))
    assert found == pytest.approx(expected, rel=1e-6)
