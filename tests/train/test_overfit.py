"""One small batch is learned by heart: optimiser, gradient, order of tokens and positions have to be right for that."""

import jax
import numpy as np
import pytest

from mgmae_jax.datasets import motion_shapes
from mgmae_jax.masking.samplers import MaskOptions
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.variants import find_variant
from mgmae_jax.ops.grid import TokenGrid
from mgmae_jax.train.mask_step import FlowOptions, MaskStep
from mgmae_jax.train.optim import adamw_direction, cosine_schedule
from mgmae_jax.train.pretrain import Pretraining

STEPS, CLIPS, FRAMES, SIDE = 400, 4, 4, 32


def batch() -> dict[str, np.ndarray]:
    """Procedural videos with their true flow towards the base frame, 2."""
    options = {"size": (SIDE, SIDE), "frames": 8}
    clips, flows = [], []
    for index in range(CLIPS):
        clips.append(motion_shapes.render(0, index, **options).frames[:FRAMES])
        forward, backward = (motion_shapes.true_flow(0, index, backward=back, **options) for back in (False, True))
        flows.append(np.concatenate([forward[: FRAMES // 2], backward[FRAMES // 2 : FRAMES - 1]]))
    return {"clip": np.stack(clips), "flow": np.stack(flows)}


@pytest.mark.slow
def test_a_fixed_batch_is_learned_under_masks_that_change_every_step():
    grid = TokenGrid(FRAMES, SIDE, SIDE, patch=8)
    pretraining = Pretraining(
        MaskedAutoencoder(find_variant("micro"), grid, 2),
        MaskStep(grid, MaskOptions(ratio=0.75), FlowOptions("tvl1")),
        adamw_direction(b1=0.9, b2=0.95, weight_decay=0.05),
        cosine_schedule(2e-3, 1e-5, steps=STEPS, warmup_steps=40),
    )
    key = jax.random.key(0)
    state = jax.jit(pretraining.init)(key)
    step, data = jax.jit(pretraining.step), batch()
    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, {}, data, key)
        losses.append(float(metrics["loss"]))
    # Predicting zero has a loss of 1.
    assert losses[0] > 1
    assert np.mean(losses[-20:]) < 0.3 * losses[0]
