"""Losses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def reconstruction_loss(prediction: Float[Array, "B K C"], target: Float[Array, "B K C"]) -> Float[Array, ""]:
    """Mean squared error over the target tokens and their values (section 3.1)."""
    return jnp.square(prediction - target).mean()


def soft_cross_entropy(logits: Float[Array, "B C"], target: Float[Array, "B C"]) -> Float[Array, ""]:
    """Mean cross-entropy of logits against target distributions over the classes."""
    return -(target * jax.nn.log_softmax(logits)).sum(axis=-1).mean()
