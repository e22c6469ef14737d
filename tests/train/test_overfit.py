"""One small batch is learned by heart: optimiser, gradient, order of tokens and positions have to be right for that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.datasets import motion_shapes
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.variants import find_variant
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.train.masks import FlowOptions, MaskStep
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


def loss_by_hand(pretraining: Pretraining, params: object, data: dict[str, np.ndarray], keys: jax.Array) -> float:
    """The loss with cubes cut, taken and normalised by NumPy, one by one."""
    split = jax.device_get(jax.jit(pretraining.masks)({}, data, keys))
    patch, side = pretraining.grid.patch, SIDE // pretraining.grid.patch
    cubes = np.stack([
        [
            clip[2 * t : 2 * t + 2, patch * row : patch * (row + 1), patch * column : patch * (column + 1)] / 255
            for t in range(FRAMES // 2) for row in range(side) for column in range(side)
        ]
        for clip in data["clip"]
    ])  # fmt: skip
    visible, hidden = (
        np.stack([tokens[index] for tokens, index in zip(cubes, indices, strict=True)]) for indices in split
    )
    shown = ((visible - IMAGENET_MEAN) / IMAGENET_STD).reshape(*visible.shape[:2], -1).astype(np.float32)
    prediction = np.asarray(jax.jit(pretraining.model.apply)({"params": params}, jnp.asarray(shown), split))
    axes = (2, 3, 4)
    scale = hidden.std(axis=axes, ddof=1, keepdims=True) + 1e-6
    target = ((hidden - hidden.mean(axis=axes, keepdims=True)) / scale).reshape(prediction.shape)
    return float(np.square(prediction - target).mean())


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
    # Few clips can be learned by heart in a wrong order of tokens too, and by a decoder alone.
    keys = jax.random.split(key, CLIPS)
    loss, grads = jax.jit(jax.value_and_grad(pretraining.loss))(state.params, (data, keys), {})
    assert loss_by_hand(pretraining, state.params, data, keys) == pytest.approx(float(loss), rel=2e-5)
    still = [jax.tree_util.keystr(path) for path, grad in jax.tree.leaves_with_path(grads) if not np.any(grad)]
    assert not still
    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, {}, data, key)
        losses.append(float(metrics["loss"]))
    # Predicting zero has a loss of 1.
    assert losses[0] > 1
    assert np.mean(losses[-20:]) < 0.3 * losses[0]
