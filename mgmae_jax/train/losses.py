"""Losses."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def reconstruction_loss(prediction: Float[Array, "B K C"], target: Float[Array, "B K C"]) -> Float[Array, ""]:
    """Mean squared error over the target tokens and their values (section 3.1)."""
    return jnp.square(prediction - target).mean()
