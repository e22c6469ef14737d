"""The state that a run carries from step to step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


@flax.struct.dataclass
class TrainState:
    """Parameters, optimiser state and counters.

    `step` counts all steps, including skipped ones, so that it is the position in the data. `bad_steps` counts
    the skipped ones, `bad_in_row` those since the last good one. `ema` is an exponential moving average of the
    parameters, or None if the run keeps none.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    bad_steps: Int[Array, ""]
    bad_in_row: Int[Array, ""]
    ema: Any = None


def create(params: Any, optimiser: optax.GradientTransformation, *, ema: bool = False) -> TrainState:
    """The state before the first step; with `ema`, it also averages the parameters."""
    zero = jnp.zeros((), jnp.int32)
    # A copy, since the state's arrays are donated one by one.
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(zero, params, optimiser.init(params), zero, zero, average)


def apply_update(
    state: TrainState,
    optimiser: optax.GradientTransformation,
    loss: Float[Array, ""],
    grads: Any,
    rate: Float[Array, ""],
    ema_decay: float = 0.0,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimiser step, or none if the loss or the gradient is not finite.

    Args:
      state: the state before the step.
      optimiser: computes the direction; see `optim.adamw_direction`.
      loss: the step's loss.
      grads: the loss's gradient, like `state.params`.
      rate: the learning rate.
      ema_decay: share of the old average that stays in `state.ema`, if there is one. Early on it is
        (1 + step) / (10 + step) if that is less, so that the average forgets the initial values.

    Returns:
      The state after the step, and its metrics: loss, grad_norm, lr, bad_steps, bad_in_row.
    """
    norm = optax.tree.norm(grads)
    good = jnp.isfinite(loss) & jnp.isfinite(norm)
    direction, opt_state = optimiser.update(grads, state.opt_state, state.params)
    params = jax.tree.map(lambda parameter, change: parameter - rate * change, state.params, direction)
    bad = 1 - good.astype(jnp.int32)
    params = _where(good, params, state.params)
    state = TrainState(
        step=state.step + 1,
        params=params,
        opt_state=_where(good, opt_state, state.opt_state),
        bad_steps=state.bad_steps + bad,
        bad_in_row=(state.bad_in_row + bad) * bad,
        ema=None if state.ema is None else _where(good, _average(state.ema, params, state.step, ema_decay), state.ema),
    )
    metrics = {"loss": loss, "grad_norm": norm, "lr": rate}
    return state, metrics | {"bad_steps": state.bad_steps, "bad_in_row": state.bad_in_row}


def _average(average: Any, params: Any, step: Int[Array, ""], decay: float) -> Any:
    step = step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, average, params)


def _where(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
