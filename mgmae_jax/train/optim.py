"""AdamW as in the recipes, Muon; cosine schedule with warm-up, layer decay, gradient accumulation."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.config_checks import check_one_of

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]


def scaled_rate(rate: float, batch_size: int) -> float:
    """The linear scaling rule: a rate given for a batch of 256."""
    return rate * batch_size / 256


def cosine_schedule(base: float, final: float, *, steps: int, warmup_steps: int) -> Schedule:
    """Learning rate of a step: from 0 up to `base` at the last warm-up step, then half a cosine towards `final`.

    Args:
      base: the peak, already scaled by the batch.
      final: the rate that the cosine ends at, already scaled.
      steps: the number of steps of the whole run.
      warmup_steps: the number of warm-up steps, less than `steps`.

    Raises:
      ConfigError: the warm-up is as long as the run.
    """
    if not 0 <= warmup_steps < steps:
        raise ConfigError("optim.warmup_epochs", warmup_steps, f"a warm-up shorter than the run of {steps} steps")

    def rate(step: Int[Array, ""]) -> Float[Array, ""]:
        step = step.astype(jnp.float32)
        warming = base * step / max(warmup_steps - 1, 1)
        passed = (step - warmup_steps) / (steps - warmup_steps)
        cosine = final + 0.5 * (base - final) * (1 + jnp.cos(jnp.pi * passed))
        return jnp.where(step < warmup_steps, warming, cosine)

    return rate


def build_schedule(config: ConfigDict, videos: int) -> Schedule:
    """The learning rate of each step that config.optim and config.train describe, over `videos` examples an epoch."""
    batch, optim = config.train.batch_size, config.optim
    steps = epochs_to_steps(config.train.epochs, videos, batch)
    warmup_steps = int(optim.warmup_epochs * videos / batch)
    if warmup_steps >= steps:
        want = f"a warm-up shorter than the run, which is train.epochs={config.train.epochs}"
        raise ConfigError("optim.warmup_epochs", optim.warmup_epochs, want)
    return cosine_schedule(
        scaled_rate(optim.lr, batch),
        scaled_rate(optim.min_lr, batch),
        steps=steps,
        warmup_steps=warmup_steps,
    )


def build_optimiser(config: ConfigDict) -> optax.GradientTransformation:
    """The optimiser that config.optim of a pre-training config describes, without its learning rate.

    Raises:
      ConfigError: there is no optimiser of that name.
    """
    optim = config.optim
    optimisers = {"adamw": adamw_direction, "muon": muon_direction}
    check_one_of(config, "optim.name", tuple(optimisers))
    return optimisers[optim.name](b1=optim.b1, b2=optim.b2, weight_decay=optim.weight_decay)


def epochs_to_steps(epochs: float, videos: int, batch_size: int) -> int:
    """Steps in `epochs` passes over the videos, at least 1."""
    if not 0 < epochs < math.inf:
        raise ConfigError("train.epochs", epochs, "a number above 0")
    return max(1, int(epochs * videos / batch_size))


def decayed(params: Any) -> Any:
    """Which parameters decay: those of two or more dimensions, and no bias, norm or token."""
    return jax.tree.map(lambda parameter: parameter.ndim > 1, params)


def layer_scales(params: Any, depth: int, decay: float) -> Any:
    """Layer-wise learning-rate decay: the factor on each parameter's rate.

    The scale is decay ** (depth + 1 - i): i is 0 for the patch embedding, k + 1 for the encoder's block k, depth + 1
    for all else (norms, head, and what else is behind the encoder).

    Args:
      params: the parameters of a `models.classifier.Classifier`.
      depth: the encoder's number of blocks.
      decay: above 0, up to 1.

    Returns:
      A tree of floats like `params`.
    """

    def scale(path: tuple[Any, ...], parameter: Array) -> float:
        names = jax.tree_util.keystr(path, simple=True, separator="/")
        block = re.search(r"^encoder/blocks/block_(\d+)/", names)
        layer = 0 if "/patch_embed/" in names else int(block[1]) + 1 if block else depth + 1
        return decay ** (depth + 1 - layer)

    return jax.tree_util.tree_map_with_path(scale, params)


def adamw_direction(
    *, b1: float, b2: float, weight_decay: float, scales: Callable[[Any], Any] | None = None
) -> optax.GradientTransformation:
    """AdamW's step before it is multiplied by the (negative) learning rate; eps 1e-8.

    Args:
      b1: decay of the first moment.
      b2: decay of the second moment.
      weight_decay: weight decay of the parameters that decay.
      scales: from parameters to the factor on the learning rate of each, weight decay included; see
        `layer_scales`.
    """
    parts = [
        optax.scale_by_adam(b1=b1, b2=b2, eps=1e-8),
        optax.add_decayed_weights(weight_decay, mask=decayed),
    ]
    if scales is not None:
        parts.append(
            optax.stateless(lambda step, params: jax.tree.map(lambda leaf, by: leaf * by, step, scales(params)))
        )
    return optax.chain(*parts)


def muon_direction(*, b1: float, b2: float, weight_decay: float) -> optax.GradientTransformation:
    """Muon's step before it is multiplied by the (negative) learning rate (Jordan et al., 2024).

    The momentum of each kernel, as a matrix from all its inputs to its outputs, is made orthogonal, and scaled to the
    size that Adam's steps have (0.2 root mean square). Biases and norms get Adam's step, with betas b1 and b2.
    """

    def matrices(params: Any) -> Any:
        numbers = optax.contrib.MuonDimensionNumbers
        return jax.tree.map(
            lambda leaf: numbers(tuple(range(leaf.ndim - 1)), (leaf.ndim - 1,)) if leaf.ndim > 1 else None, params
        )

    descent = optax.contrib.muon(
        1.0,
        adam_b1=b1,
        adam_b2=b2,
        weight_decay=weight_decay,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=matrices,
    )
    chain = optax.chain(descent, optax.scale(-1.0))  # the caller subtracts

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # Optax's raises a number to the power of a counter, which a strict session forbids.
        with jax.numpy_dtype_promotion("standard"):
            updated: tuple[Any, Any] = chain.update(updates, state, params)
            return updated

    return optax.GradientTransformation(chain.init, update)


def loss_and_grad(
    loss: Callable[[Any, Any], Any], params: Any, examples: Any, parts: int, *, weighted: bool = False
) -> tuple[Array, Any]:
    """The mean loss of a batch and its gradient.

    Args:
      loss: (params, examples) -> mean over the examples; where weighted, (mean, weight).
      params: a pytree.
      examples: a pytree of arrays [clips, ...].
      parts: the number of parts in which the batch is processed: more parts take less memory and more time.
      weighted: whether the mean over a part counts by its weight, the number of values that it is over. The loss is
        then the mean over the values of the whole batch, whatever the number of parts. A weight has no gradient.

    Raises:
      ConfigError: the number of parts does not divide the number of clips.
    """
    clips = jax.tree.leaves(examples)[0].shape[0]
    if clips % parts:
        raise ConfigError("train.accumulate", parts, f"a divisor of the {clips} clips of a step")
    grad = jax.value_and_grad(loss, has_aux=weighted)
    if parts == 1:
        value, grads = grad(params, examples)
        return value[0] if weighted else value, grads

    # Parts are strided, so that each device processes clips of its own in every part.
    def strided(array: Array) -> Array:
        return array.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)

    def add(total: Any, part: Any) -> tuple[Any, Array | None]:
        value, grads = grad(params, part)
        if not weighted:
            return jax.tree.map(jnp.add, total, (value, grads)), None
        mean, weight = value
        return jax.tree.map(lambda sum_, leaf: sum_ + leaf * weight, total, (mean, grads)), weight

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    total, weights = jax.lax.scan(add, zero, jax.tree.map(strided, examples))
    whole = parts if weights is None else weights.sum()
    mean: tuple[Array, Any] = jax.tree.map(lambda leaf: leaf / whole, total)
    return mean
