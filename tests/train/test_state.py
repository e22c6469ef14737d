import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.runtime.mesh import abstract_on, make_mesh, make_on
from mgmae_jax.train.optim import adamw_direction
from mgmae_jax.train.state import TrainState, apply_update, create

OPTIMISER = adamw_direction(b1=0.9, b2=0.95, weight_decay=0.05)
GRADS = {"kernel": jnp.full((2, 3), 0.1), "bias": jnp.full(3, -0.2)}
GRADS_OF_BIAS = {"bias": GRADS["bias"]}


@jax.jit
def update(state: TrainState, loss: jax.Array, grads: dict[str, jax.Array]) -> tuple[TrainState, dict]:
    return apply_update(state, OPTIMISER, loss, grads, jnp.float32(0.5))


@pytest.fixture
def state() -> TrainState:
    """After one good step, so that the optimiser's state is not all zeros."""
    params = {"kernel": jnp.arange(6, dtype=jnp.float32).reshape(2, 3), "bias": jnp.ones(3)}
    return update(create(params, OPTIMISER), jnp.float32(1), GRADS)[0]


def same_bits(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b))


def test_a_good_step_moves_against_the_gradient(state):
    moved, metrics = update(state, jnp.float32(2), GRADS)
    assert (moved.params["bias"] > state.params["bias"]).all()
    assert not same_bits(moved.opt_state, state.opt_state)
    assert int(moved.step) == 2
    assert metrics["loss"] == 2
    assert metrics["lr"] == 0.5
    np.testing.assert_allclose(metrics["grad_norm"], np.sqrt(6 * 0.01 + 3 * 0.04), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["loss", "kernel", "bias"])
def test_what_is_not_finite_changes_nothing_but_the_counters(state, place: str, value: float):
    loss, grads = jnp.float32(1), dict(GRADS)
    if place == "loss":
        loss = jnp.float32(value)
    else:
        grads[place] = grads[place].reshape(-1).at[-1].set(value).reshape(grads[place].shape)
    after, metrics = update(state, loss, grads)
    assert same_bits(after.params, state.params)
    assert same_bits(after.opt_state, state.opt_state)
    assert (int(after.step), int(after.bad_steps), int(after.bad_in_row)) == (2, 1, 1)
    assert (int(metrics["bad_steps"]), int(metrics["bad_in_row"])) == (1, 1)


def test_bad_steps_are_counted_and_those_in_a_row_start_again_after_a_good_one(state):
    counts = []
    for loss in [jnp.nan, jnp.nan, 1.0, jnp.nan, 1.0]:
        state, _ = update(state, jnp.float32(loss), GRADS)
        counts.append((int(state.step), int(state.bad_steps), int(state.bad_in_row)))
    assert counts == [(2, 1, 1), (3, 2, 2), (4, 2, 0), (5, 3, 1), (6, 3, 0)]


def test_the_state_is_made_in_its_shardings_parameters_and_optimiser_alike():
    def make() -> TrainState:
        return create({"kernel": jnp.ones((256, 512)), "bias": jnp.ones(512)}, OPTIMISER)

    state = make_on(abstract_on(make_mesh(fsdp=4), make), make)
    adam = state.opt_state[0]
    for tree in (state.params, adam.mu, adam.nu):
        assert tree["kernel"].addressable_shards[0].data.shape == (256, 128)
        assert tree["bias"].addressable_shards[0].data.shape == (512,)


def test_the_average_follows_the_parameters_and_forgets_where_they_began():
    state = create({"bias": jnp.zeros(3)}, OPTIMISER, ema=True)
    step = jax.jit(lambda state: apply_update(state, OPTIMISER, jnp.float32(1), GRADS_OF_BIAS, jnp.float32(0.1), 0.5))
    wanted = np.zeros(3)
    for number in range(5):
        state, _ = step(state)
        decay = min(0.5, (1 + number) / (10 + number))
        wanted = decay * wanted + (1 - decay) * np.asarray(state.params["bias"])
    np.testing.assert_allclose(state.ema["bias"], wanted, rtol=1e-5)


def test_the_average_stays_where_it_is_at_a_step_that_is_skipped():
    state = create({"bias": jnp.zeros(3)}, OPTIMISER, ema=True)
    state = dataclasses.replace(state, ema={"bias": jnp.ones(3)})
    after, _ = apply_update(state, OPTIMISER, jnp.float32(jnp.nan), GRADS_OF_BIAS, jnp.float32(0.1), 0.9)
    assert same_bits(after.ema, state.ema)


def test_a_run_without_an_average_keeps_none(state):
    assert state.ema is None
    assert update(state, jnp.float32(2), GRADS)[0].ema is None
