"""A masking idea of one's own is a function and a line, through training and pictures; it may learn, too."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from mgmae_jax.cli import main
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions, Strategy
from mgmae_jax.masking.strategies import STRATEGIES
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, patchify, unit_range
from tests.train.tiny import random_batch, tiny_pretraining, tiny_state

KEY = jax.random.key(0)


def brightest(ask: MaskInput) -> Array:
    """The brightest cubes of the clip are visible."""
    return jax.lax.top_k(unit_range(patchify(ask.clip, ask.grid)).mean(-1), ask.count)[1]


@pytest.fixture
def _brightest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "brightest", Strategy(brightest))


@pytest.mark.usefixtures("_brightest")
def test_a_new_strategy_trains():
    pretraining, batch = tiny_pretraining(strategy="brightest"), random_batch(0)
    split = jax.jit(pretraining.masks)({}, batch, jax.random.split(KEY, 8))
    cubes = np.asarray(patchify(jnp.asarray(batch["clip"]), pretraining.grid), np.float64).mean(-1)
    shown, hidden = (np.take_along_axis(cubes, np.asarray(index), 1) for index in split)
    assert (shown.min(1) >= hidden.max(1)).all()
    _, metrics = jax.jit(pretraining.step)(tiny_state(pretraining), {}, batch, KEY)
    assert np.isfinite(metrics["loss"])


@pytest.mark.usefixtures("_brightest")
def test_a_new_strategy_is_drawn(tmp_path: Path):
    picture = tmp_path / "masks.png"
    fields = {"mask.strategy": "brightest", "clip.frames": 4, "clip.size": 32, "mask.ratio": 0.5}
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    assert main(["visualize", "--motion-shapes", "bouncing", "--out", str(picture), *overrides]) == 0
    assert picture.stat().st_size > 1000


def init_scores(key: Array, grid: TokenGrid, options: MaskOptions, width: int) -> Array:
    return jnp.zeros(grid.tokens)


def learned(ask: MaskInput) -> Array:
    """Tokens drawn by learned scores (Gumbel's top-k)."""
    return jax.lax.top_k(ask.params + jax.random.gumbel(ask.key, (ask.grid.tokens,)), ask.count)[1]


def show_the_hard(ask: MaskInput, split: TokenSplit, errors: Array) -> Array:
    """AdaMAE's: hidden tokens of high error become more probable."""
    return -(jax.nn.log_softmax(ask.params)[split.target] * errors).mean()


def test_a_strategy_may_learn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(STRATEGIES, "learned", Strategy(learned, init=init_scores, loss=show_the_hard))
    pretraining, batch = tiny_pretraining(strategy="learned"), random_batch(0)
    state = jax.jit(pretraining.init)(KEY)
    assert state.params["mask"].shape == (pretraining.grid.tokens,)
    examples = batch, jax.random.split(KEY, 8)
    grads = jax.jit(jax.grad(pretraining.loss))(state.params, examples, {})["mask"]
    # What would lower the loss: a score that is often among the hidden rises.
    flow = pretraining.masks.batch_flow({}, *examples)
    hidden = pretraining.masks.draw(pretraining.masks.ask(state.params, batch["clip"], flow, examples[1])).target
    times = np.bincount(np.asarray(hidden).ravel(), minlength=pretraining.grid.tokens)
    assert np.corrcoef(np.asarray(grads), times)[0, 1] < -0.9
    # The errors come without a gradient: the model's is that of the reconstruction only.
    monkeypatch.setitem(STRATEGIES, "learned", Strategy(learned, init=init_scores))
    both = jax.jit(jax.grad(pretraining.loss))(state.params, examples, {})
    np.testing.assert_array_equal(both["mask"], 0)
    after, _ = jax.jit(pretraining.step)(state, {}, batch, KEY)
    assert int(after.step) == 1
