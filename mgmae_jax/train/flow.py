"""Training of the flow network: RAFT's sequence loss, and the one jitted step around it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, UInt8

from mgmae_jax.flow.metrics import end_point_error
from mgmae_jax.flow.raft import RaftSmall, init_params, upsample_flow
from mgmae_jax.train.optim import Schedule
from mgmae_jax.train.state import TrainState, apply_update, create

GAMMA = 0.8
"""Weight of an update's error in the loss, against the next one's (RAFT, Eq. 7)."""


@dataclasses.dataclass(frozen=True)
class FlowTraining:
    """What a training run of RAFT-small is made of.

    Args:
      optimiser: gives the direction of each update.
      schedule: learning rate of a step.
      iters: RAFT's updates in the loss.
      dtype: of RAFT's convolutions; parameters, correlation, positions, flow and loss are float32.
      ema_decay: of the average of the parameters, which is what gets validated and kept.
      pairs: makes frame pairs of the frozen arrays and the batch: "image1", "image2", "flow" (see `synthetic.Pair`).
    """

    optimiser: optax.GradientTransformation
    schedule: Schedule
    iters: int
    dtype: DTypeLike
    ema_decay: float
    pairs: Callable[[Any, Mapping[str, Array]], Mapping[str, Array]] = lambda frozen, batch: batch

    def init(self, key: Key[Array, ""]) -> TrainState:
        """The state before the first step; float32 parameters drawn from `key`."""
        return self.start(init_params(key))

    def start(self, params: Any) -> TrainState:
        """The state before the first step from given parameters."""
        return create(params, self.optimiser, ema=True)

    def step(
        self, state: TrainState, frozen: Any, batch: Mapping[str, Array], key: Key[Array, ""]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step, to be jitted with `state` donated; nothing in it is random, so `key` is not used.

        Returns:
          The state after the step, and its metrics (scalars): also "epe", the end-point error in pixels of the last
          update.
        """
        with jax.named_scope("pairs"):
            pairs = self.pairs(frozen, batch)
        (loss, error), grads = jax.value_and_grad(self.loss, has_aux=True)(state.params, pairs)
        with jax.named_scope("update"):
            state, metrics = apply_update(state, self.optimiser, loss, grads, self.schedule(state.step), self.ema_decay)
        return state, metrics | {"epe": error}

    def loss(self, params: Any, pairs: Mapping[str, Array]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The sequence loss, and the end-point error of the last update."""
        flows = flow_after_each(params, pairs["image1"], pairs["image2"], iters=self.iters, dtype=self.dtype)
        return sequence_loss(flows, pairs["flow"]), end_point_error(flows[-1], pairs["flow"]).mean()


def flow_after_each(
    params: Any,
    image1: UInt8[Array, "P H W 3"],
    image2: UInt8[Array, "P H W 3"],
    *,
    iters: int,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "{iters} P H W xy=2"]:
    """Flow in pixels after each of `iters` updates, with gradients; sides divide by 8."""
    raft = RaftSmall(dtype)
    one, two = (image.astype(jnp.float32) * jnp.float32(2 / 255) - 1 for image in (image1, image2))
    with jax.named_scope("encode"):
        features = raft.apply({"params": params}, jnp.concatenate([one, two]), method="features")
        context = raft.apply({"params": params}, one, method="context")
    features1, features2 = jnp.split(features, 2)

    def refine(params: Any, features1: Array, features2: Array, context: Array, *, for_cpu: bool) -> Array:
        options = {"iters": iters, "for_cpu": for_cpu, "every": True, "method": "refine"}
        return raft.apply({"params": params}, features1, features2, context, **options)

    with jax.named_scope("refine"):
        flows = jax.lax.platform_dependent(
            params,
            features1,
            features2,
            context,
            cpu=functools.partial(refine, for_cpu=True),
            default=functools.partial(refine, for_cpu=False),
        )
    return jax.vmap(upsample_flow)(flows)


def sequence_loss(flows: Float[Array, "I P H W xy=2"], truth: Float[Array, "P H W xy=2"]) -> Float[Array, ""]:
    """RAFT's loss (Eq. 7): the mean absolute error after each update, later ones counting more."""
    errors = jnp.abs(flows - truth[None]).mean(axis=(1, 2, 3, 4))
    weights = jnp.float32(GAMMA) ** jnp.arange(flows.shape[0] - 1, -1, -1, dtype=jnp.float32)
    return (weights * errors).sum()
