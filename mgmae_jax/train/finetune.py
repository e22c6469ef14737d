"""Fine-tuning: the loss of a labelled batch, and the one jitted step around it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, UInt8

from mgmae_jax.models.classifier import Classifier
from mgmae_jax.ops.patches import unit_range
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.train.accumulate import loss_and_grad
from mgmae_jax.train.losses import soft_cross_entropy
from mgmae_jax.train.mixing import Mixing, MixOptions, draw_mixing, mix_clips, soft_labels
from mgmae_jax.train.optim import Schedule
from mgmae_jax.train.state import TrainState, apply_update, create


class Examples(NamedTuple):
    """Clips, each with the one that it is mixed with, and the keys of what is dropped."""

    clip: UInt8[Array, "B T H W 3"]
    label: Int[Array, "B"]
    partner: UInt8[Array, "B T H W 3"]
    partner_label: Int[Array, "B"]
    drop_path: Key[Array, "B"]
    dropout: Key[Array, "B"]


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """What a fine-tuning run is made of.

    Args:
      model: the classifier.
      mix: mixup, cutmix and label smoothing.
      optimiser: gives the direction of each update.
      schedule: learning rate of a step.
      accumulate: parts that a batch is worked on in, one after another, for one update.
      ema_decay: of the average of the parameters; 0 keeps none.
    """

    model: Classifier
    mix: MixOptions
    optimiser: optax.GradientTransformation
    schedule: Schedule
    accumulate: int = 1
    ema_decay: float = 0.0

    def init(self, key: Key[Array, ""], encoder: Any = None) -> TrainState:
        """The state before the first step; float32 parameters.

        Args:
          key: the parameters are drawn from it.
          encoder: pre-trained parameters to take instead, see `pretrained.load_encoder`; None draws all of them.
        """
        grid = self.model.grid
        params = self.model.init(key, jnp.zeros((1, grid.frames, grid.height, grid.width, 3), jnp.uint8))["params"]
        if encoder is not None:
            params = params | {"encoder": encoder}
        return create(params, self.optimiser, ema=self.ema_decay > 0)

    def step(
        self, state: TrainState, frozen: Any, batch: Mapping[str, Array], key: Key[Array, ""]
    ) -> tuple[TrainState, dict]:
        """One step: mixing, loss, gradient, update. To be jitted, with `state` donated.

        Args:
          state: before the step.
          frozen: nothing; every step of the loop has it.
          batch: "clip" uint8 [B, T, H, W, 3] and "label" int32 [B]; the leading axis is the global batch.
          key: the run's root key.

        Returns:
          The state after the step and its metrics (scalars).
        """
        clip, label = batch["clip"], batch["label"]
        with jax.named_scope("mixing"):
            # A batch is mixed with itself the other way round; what is drawn is the same for all of it.
            examples = Examples(
                clip,
                label,
                clip[::-1],
                label[::-1],
                *(per_example(stream(key, state.step, name), 0, len(label)) for name in ("drop_path", "dropout")),
            )
            mixing = None
            if self.mix.mixes:
                grid = self.model.grid
                mixing = draw_mixing(stream(key, state.step, "mixup"), self.mix, grid.height, grid.width)
        loss, grads = loss_and_grad(
            lambda params, part: self.loss(params, part, mixing), state.params, examples, self.accumulate
        )
        with jax.named_scope("update"):
            return apply_update(state, self.optimiser, loss, grads, self.schedule(state.step), self.ema_decay)

    def loss(self, params: Any, examples: Examples, mixing: Mixing | None) -> Float[Array, ""]:
        """The cross-entropy of examples, mixed as `mixing` says, against their smoothed labels."""
        clips, share = unit_range(examples.clip), 1.0
        if mixing is not None:
            clips, share = mix_clips(clips, unit_range(examples.partner), mixing), mixing.share
        with jax.named_scope("model"):
            logits = self.model.apply({"params": params}, clips, examples.drop_path, examples.dropout)
        target = soft_labels(examples.label, examples.partner_label, share, self.model.classes, self.mix.smoothing)
        return soft_cross_entropy(logits, target)
