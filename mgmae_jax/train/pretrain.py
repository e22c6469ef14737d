"""Masked pre-training: the loss of a batch, and the one jitted step around it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, UInt8

from mgmae_jax.masking.select import TokenSplit, visible_per_tubelet
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.ops.grid import TokenGrid
from mgmae_jax.ops.patches import normalise_pixels, patchify, take_tokens, unit_range, unpatchify
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.train.accumulate import loss_and_grad
from mgmae_jax.train.losses import reconstruction_loss
from mgmae_jax.train.mask_step import MaskDetails, MaskStep
from mgmae_jax.train.optim import Schedule
from mgmae_jax.train.state import TrainState, apply_update, create
from mgmae_jax.train.targets import TARGETS, Target

Batch = Mapping[str, Array]
Step = Callable[[TrainState, Any, Batch, Array], tuple[TrainState, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """What a pre-training run is made of.

    Args:
      model: the masked autoencoder.
      masks: the masking step.
      optimiser: gives the direction of each update.
      schedule: learning rate of a step.
      accumulate: parts that a batch is worked on in, one after another, for one update.
      target: what is predicted of the hidden cubes.
    """

    model: MaskedAutoencoder
    masks: MaskStep
    optimiser: optax.GradientTransformation
    schedule: Schedule
    accumulate: int = 1
    target: Target = TARGETS["normalised"]

    @property
    def grid(self) -> TokenGrid:
        """How clips are cut."""
        return self.masks.grid

    def init(self, key: Key[Array, ""]) -> TrainState:
        """The state before the first step; float32 parameters drawn from `key`."""
        visible = visible_per_tubelet(self.masks.mask.ratio, self.grid) * self.grid.tubelets
        split = TokenSplit(jnp.zeros((1, visible), jnp.int32), jnp.zeros((1, self.grid.tokens - visible), jnp.int32))
        params = self.model.init(key, jnp.zeros((1, visible, self.grid.cube_values)), split)["params"]
        return create(params, self.optimiser)

    def step(self, state: TrainState, flow_params: Any, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, dict]:
        """One step: flow, masks, loss, gradient, update. To be jitted, with `state` donated.

        Args:
          state: before the step.
          flow_params: RAFT's frozen parameters, or an empty dict.
          batch: see `MaskStep.__call__`; the leading axis is the global batch.
          key: the run's root key.

        Returns:
          The state after the step and its metrics (scalars).
        """
        # A clip's mask depends on its place in the global batch alone, so that no split over devices changes it.
        keys = per_example(stream(key, state.step, "mask"), 0, batch["clip"].shape[0])

        def loss(params: Any, examples: tuple[Batch, Array]) -> Array:
            return self.loss(params, flow_params, *examples)

        value, grads = loss_and_grad(loss, state.params, (dict(batch), keys), self.accumulate)
        with jax.named_scope("update"):
            return apply_update(state, self.optimiser, value, grads, self.schedule(state.step))

    def loss(self, params: Any, flow_params: Any, batch: Batch, keys: Key[Array, "B"]) -> Float[Array, ""]:
        """The reconstruction loss of a batch whose masks are drawn from `keys`."""
        split = self.masks(flow_params, batch, keys)
        with jax.named_scope("cubes"):
            cubes = patchify(batch["clip"], self.grid)
            visible = normalise_pixels(unit_range(take_tokens(cubes, split.visible)))
            target = self.target.values(unit_range(take_tokens(cubes, split.target)))
        with jax.named_scope("model"):
            prediction = self.model.apply({"params": params}, visible, split)
        return reconstruction_loss(prediction, target)

    def reconstruct(
        self,
        params: Any,
        flow_params: Any,
        clip: UInt8[Array, "T H W 3"],
        stored_flow: Float[Array, "..."] | None,
        key: Key[Array, ""],
    ) -> tuple[MaskDetails, UInt8[Array, "T H W 3"]]:
        """The mask of one clip, and the clip with its hidden cubes predicted, as `Target.draw` has it."""
        details = self.masks.details(flow_params, key, clip, stored_flow)
        split = jax.tree.map(lambda index: index[None], details.split)
        cubes = unit_range(patchify(clip, self.grid))[None]
        visible = normalise_pixels(take_tokens(cubes, split.visible))
        prediction = self.model.apply({"params": params}, visible, split)
        restored = self.target.draw(prediction, take_tokens(cubes, split.target))
        whole = unpatchify(cubes[0].at[details.split.target].set(restored[0]), self.grid)
        return details, jnp.round(whole * 255).astype(jnp.uint8)
