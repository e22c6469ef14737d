"""How far flow is from the truth: end-point error and outliers."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

THRESHOLDS = (1, 3, 5)
"""Pixels beyond which a vector counts as an outlier."""


def end_point_error(flow: Float[Array, "*S xy=2"], truth: Float[Array, "*S xy=2"]) -> Float[Array, "*S"]:
    """Distance of each flow vector from the true one, in pixels."""
    return jnp.sqrt(jnp.square(flow - truth).sum(axis=-1))


def flow_scores(
    flow: Float[Array, "*S xy=2"], truth: Float[Array, "*S xy=2"], valid: Bool[Array, "*S"] | None = None
) -> dict[str, Float[Array, ""]]:
    """Mean end-point error in pixels, "epe", and the share of pixels that are off by more than 1, 3 and 5 pixels.

    Args:
      flow: the flow to score, in pixels.
      truth: the true flow.
      valid: where the truth is known, at least at one pixel; by default everywhere.

    Returns:
      "epe", "over_1px", "over_3px", "over_5px".
    """
    error = end_point_error(flow, truth)
    weight = jnp.ones_like(error) if valid is None else valid.astype(error.dtype)
    scores = {"epe": error} | {f"over_{pixels}px": (error > pixels).astype(error.dtype) for pixels in THRESHOLDS}
    # Unknown flow may be infinite, so it is left out rather than multiplied by zero.
    return {name: jnp.where(weight > 0, value, 0).sum() / weight.sum() for name, value in scores.items()}
