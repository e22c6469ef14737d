"""Where a frame shows what its neighbour does not: the flow to the neighbour, and the flow back, disagree.

A pixel that the neighbour hides has no true flow to it; what is estimated leads to something else, from where the flow
leads elsewhere (the rule of Sundaram, Brox, Keutzer: Dense Point Trajectories by GPU-accelerated Large Displacement
Optical Flow, ECCV 2010, section 3.1). With `mask.occlusion=consistency` motion masks treat it as a hole.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mgmae_jax.ops.sampling import pixel_grid, sample_bilinear


def disagree(flow: Float[Array, "*N xy=2"], back: Float[Array, "*N xy=2"]) -> Bool[Array, "*N"]:
    """Whether |flow + back|^2 >= 0.01 (|flow|^2 + |back|^2) + 0.5, in pixels.

    Args:
      flow: from points of one frame to another.
      back: the flow from there to the first frame.
    """
    lengths = jnp.square(flow).sum(axis=-1) + jnp.square(back).sum(axis=-1)
    return jnp.square(flow + back).sum(axis=-1) >= 0.01 * lengths + 0.5


def occluded(flow: Float[Array, "H W xy=2"], other: Float[Array, "H W xy=2"]) -> Bool[Array, "H W"]:
    """The pixels of a frame that its neighbour does not show, as far as flow both ways tells.

    Args:
      flow: from every pixel of the frame to the neighbour, in pixels.
      other: from every pixel of the neighbour to the frame.
    """
    there = pixel_grid(*flow.shape[:2]) + flow
    return disagree(flow, jnp.stack([sample_bilinear(other[..., axis], there) for axis in (0, 1)], axis=-1))
