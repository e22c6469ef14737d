import dataclasses
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit
from mgmae_jax.runtime.share import Share
from mgmae_jax.train.baselines import (
    BASELINES,
    guess_errors,
    guess_moments,
    guess_table,
    guessed_at_once,
    nearest_along_flow,
)
from mgmae_jax.train.pretrain import Pretraining
from mgmae_jax.train.targets import TARGETS
from tests.train.tiny import tiny_pretraining, tiny_state

KEYS = jax.random.split(jax.random.key(0), 2)
SIDE = 32


def moments(pretraining: Pretraining, params: object, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return jax.device_get(jax.jit(partial(guess_moments, pretraining))(params, {}, batch, KEYS))


def errors_of(batch: dict[str, np.ndarray], *, params: object = None, target: str = "pixels", **mask: object) -> dict:
    pretraining = dataclasses.replace(tiny_pretraining(flow="tvl1", **mask), target=TARGETS[target])
    return guess_errors([moments(pretraining, params, batch)])


def moving_texture(step: tuple[int, int]) -> dict[str, np.ndarray]:
    """Two clips of 4 frames that move by whole pixels, with their flow towards the base frame, 2."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    clip = np.stack([np.roll(texture, (t * step[1], t * step[0]), (1, 2)) for t in range(4)], axis=1)
    flow = np.broadcast_to(np.asarray(step, np.float32), (2, 3, SIDE, SIDE, 2)).copy()
    flow[:, 2] *= -1  # of the frame after the base
    return {"clip": clip, "flow": flow}


def test_a_clip_of_one_colour_is_guessed_but_for_the_mean_of_all():
    clip = np.empty((2, 4, SIDE, SIDE, 3), np.uint8)
    clip[0], clip[1] = 60, 200
    errors = errors_of({"clip": clip, "flow": np.zeros((2, 3, SIDE, SIDE, 2), np.float32)})
    for name in ("clip_mean", "nearest", "along_flow", "own_colour"):
        assert errors[name] == pytest.approx(0, abs=1e-9)
    half = 70 / 255 / np.asarray([0.229, 0.224, 0.225])
    assert errors["mean_cube"] == pytest.approx(np.square(half).mean(), rel=1e-3)


def test_what_stands_still_is_hidden_at_all_times():
    clip = np.repeat(np.random.default_rng(1).integers(0, 256, (2, 1, SIDE, SIDE, 3), np.uint8), 4, axis=1)
    still = {"clip": clip, "flow": np.zeros((2, 3, SIDE, SIDE, 2), np.float32)}
    errors = errors_of(still)
    assert errors["along_flow"] == pytest.approx(errors["nearest"], rel=0.3)
    assert errors["along_flow"] > 1  # noise, of which no tubelet shows what another hides


def test_following_the_flow_finds_the_same_point_in_another_tubelet():
    # Cubes of 8 pixels, tubelets of 2 frames, 4 pixels a frame: from one tubelet to the next a point moves by a cube.
    grid = TokenGrid(4, SIDE, SIDE, patch=8)
    flow = moving_texture((4, 0))["flow"][0]
    split = TokenSplit(jnp.arange(16, 32, dtype=jnp.int32), jnp.arange(16, dtype=jnp.int32))
    found = np.asarray(nearest_along_flow(split, grid, jnp.asarray(flow), 2, MaskOptions(ratio=0.5))).reshape(4, 4)
    np.testing.assert_array_equal(found[:, :2], np.arange(16).reshape(4, 4)[:, 1:3])
    still = nearest_along_flow(split, grid, jnp.zeros(flow.shape), 2, MaskOptions(ratio=0.5))
    np.testing.assert_array_equal(still, np.arange(16))


def test_normalised_cubes_have_an_error_of_one_by_their_mean_and_twice_that_by_a_copy():
    errors = errors_of(moving_texture((3, 1)), target="normalised")
    assert errors["mean_cube"] == pytest.approx(0.97, abs=0.03)
    assert errors["nearest"] == pytest.approx(2, abs=0.2)


def test_hog_is_guessed_from_cubes_and_not_from_a_colour():
    errors = errors_of(moving_texture((3, 1)), target="hog")
    assert set(errors) == set(BASELINES) - {"own_colour"}
    # Unit histograms of noise are much alike: their mean leaves less than a copy does.
    assert 0 < errors["mean_cube"] < errors["nearest"] < 1 / 9
    assert "own mean colour" not in guess_table(errors)


def test_the_network_is_measured_on_the_masks_that_its_loss_sees():
    pretraining = dataclasses.replace(tiny_pretraining(flow="tvl1"), target=TARGETS["pixels"])
    params = jax.device_get(tiny_state(pretraining).params)
    batch = moving_texture((1, 2))
    errors = errors_of(batch, params=params)
    assert errors["network"] == pytest.approx(float(jax.jit(pretraining.loss)(params, (batch, KEYS), {})), rel=1e-5)
    assert list(errors) == ["network", *(name for name in BASELINES if name in errors)]


def test_without_flow_nothing_is_copied_along_it():
    clip = {"clip": moving_texture((1, 0))["clip"]}
    pretraining = tiny_pretraining(strategy="tube")
    errors = guess_errors([moments(pretraining, None, clip)])
    assert "along_flow" not in errors
    assert "network" not in errors
    assert "along the flow" not in guess_table(errors)


def test_errors_are_means_over_the_batches():
    first, second = moving_texture((1, 0)), moving_texture((0, 3))
    pretraining = tiny_pretraining(flow="tvl1")
    parts = [moments(pretraining, None, batch) for batch in (first, second)]
    one, two, both = guess_errors(parts[:1]), guess_errors(parts[1:]), guess_errors(parts)
    assert both["nearest"] == pytest.approx((one["nearest"] + two["nearest"]) / 2)
    assert both["mean_cube"] >= (one["mean_cube"] + two["mean_cube"]) / 2 - 1e-9  # one mean for both


def test_the_table_says_how_far_below_a_baseline_the_network_is():
    text = guess_table({"network": 0.3, "mean_cube": 0.6, "clip_mean": 0.25})
    assert "the network" in text
    assert "0.6000  50% below" in " ".join(text.split()).replace("0.6000 50%", "0.6000  50%")
    assert "20% above" in text


@pytest.mark.parametrize("index", [0, 8])
def test_on_procedural_videos_a_copy_leaves_more_than_the_own_colour(index: int):
    # What a mask along the true flow is for: what is hidden cannot be copied from what is shown.
    options = {"size": (SIDE, SIDE), "frames": 8}
    clip = motion_shapes.render(0, index, **options).frames[:4]
    forward, backward = (motion_shapes.true_flow(0, index, backward=back, **options) for back in (False, True))
    flow = np.concatenate([forward[:2], backward[2:3]])
    errors = errors_of({"clip": np.stack([clip] * 2), "flow": np.stack([flow] * 2)})
    assert errors["along_flow"] > errors["own_colour"]


@pytest.mark.parametrize("strategy", ["adamae", "everest"])
def test_masks_that_depend_on_a_model_are_guessed_without_one(strategy):
    errors = errors_of(moving_texture((3, 1)), strategy=strategy, keep=0.8)
    assert 0 < errors["mean_cube"] < errors["nearest"]


@pytest.mark.parametrize(
    ("batch", "views", "accumulate", "devices", "at_once"),
    [
        (64, 1, 1, 1, 64),  # as the step
        (384, 4, 1, 8, 64),  # 256 clips are enough
        (384, 4, 12, 8, 32),  # and no more than the step has at once
        (384, 4, 1, 128, 128),  # whole videos on every device
        (384, 4, 16, 16, 16),
        (64, 2, 16, 8, 8),
        (512, 1, 1, 512, 512),
        (16, 4, 8, 64, 16),  # there is no part of this batch for every device
    ],
)
def test_no_more_is_guessed_at_once_than_a_step_has_room_for(batch, views, accumulate, devices, at_once):
    fields = {"train.batch_size": batch, "data.views": views, "train.accumulate": accumulate}
    config = load_config("demo", [f"--config.{name}={value}" for name, value in fields.items()])
    assert guessed_at_once(config, types.SimpleNamespace(size=devices)) == at_once
    if batch % devices == 0:
        assert len(Share((devices - 1,), devices).examples(at_once, views)) == at_once // devices
