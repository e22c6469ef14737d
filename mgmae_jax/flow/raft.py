"""RAFT-small (Teed and Deng, 2020): optical flow by recurrent refinement, with one upsampling at the end."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mgmae_jax.flow.correlation import correlation_pyramid, lookup, lookup_by_gather
from mgmae_jax.flow.encoder import Encoder
from mgmae_jax.flow.update import CONTEXT, HIDDEN, ConvGRU, FlowHead, MotionEncoder
from mgmae_jax.ops.sampling import pixel_grid, resize_aligned

CELL = 8
"""Pixels to a side of one cell of the flow that the network refines."""


class RaftSmall(nn.Module):
    """RAFT-small, 990,162 parameters. Correlation, positions and flow are float32 whatever `dtype` is.

    The parts are methods, so that the frames of a clip are encoded once for all the pairs they belong to.
    """

    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Names the parts as the parameter tree does."""
        self.feature_encoder = Encoder(128, norm=True, dtype=self.dtype)
        self.context_encoder = Encoder(HIDDEN + CONTEXT, norm=False, dtype=self.dtype)
        self.motion_encoder = MotionEncoder(self.dtype)
        self.gru = ConvGRU(self.dtype)
        self.flow_head = FlowHead(self.dtype)

    def features(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B h w 128"]:
        """Matching features of images in [-1, 1]."""
        return self.feature_encoder(images)

    def context(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B h w 160"]:
        """Context features of images in [-1, 1]: hidden state's start and GRU's constant input, unactivated."""
        return self.context_encoder(images)

    def refine(
        self,
        features1: Float[Array, "P h w 128"],
        features2: Float[Array, "P h w 128"],
        context: Float[Array, "P h w 160"],
        *,
        iters: int,
        for_cpu: bool = False,
        every: bool = False,
    ) -> Float[Array, "*I P h w xy=2"]:
        """Flow from map 1 to map 2 in cells, after `iters` updates from zero; with `every` after each, [iters, ...].

        The updates are a `lax.scan`; with `for_cpu` they are unrolled and look the correlation up by gather, because
        XLA's CPU backend runs convolutions inside a loop, and small batched products, on slow paths.
        """
        pyramid = correlation_pyramid(features1, features2)
        hidden = jnp.tanh(context[..., :HIDDEN])
        context_part = self.gru.context_part(nn.relu(context[..., HIDDEN:]))
        pairs, height, width, _ = features1.shape
        start = pixel_grid(height, width)[None]
        look_up = lookup_by_gather if for_cpu else lookup

        def update(self: "RaftSmall", carry: tuple, _: None) -> tuple[tuple, Array | None]:
            hidden, flow = carry
            flow = jax.lax.stop_gradient(flow)  # each update learns its own step alone
            window = look_up(pyramid, start + flow)
            hidden = self.gru(hidden, context_part, self.motion_encoder(window, flow))
            flow = flow + self.flow_head(hidden)
            return (hidden, flow), flow if every else None

        carry = (hidden, jnp.zeros((pairs, height, width, 2), jnp.float32))
        if for_cpu:
            flows = []
            for _ in range(iters):
                carry, flow = update(self, carry, None)
                flows.append(flow)
            flows = jnp.stack(flows) if every else None
        else:
            scan = nn.scan(update, variable_broadcast="params", split_rngs={"params": False}, length=iters)
            carry, flows = scan(self, carry, None)
        return flows if every else carry[1]

    def __call__(
        self, image1: Float[Array, "P H W 3"], image2: Float[Array, "P H W 3"], iters: int = 12
    ) -> Float[Array, "P h w xy=2"]:
        """Flow from image 1 to image 2 (both in [-1, 1], sides divisible by 8) in cells of 8 pixels."""
        features1, features2 = jnp.split(self.features(jnp.concatenate([image1, image2])), 2)
        return self.refine(features1, features2, self.context(image1), iters=iters)


def init_params(key: Array) -> dict[str, Any]:
    """Random parameters of `RaftSmall`, as nested dicts of float32 arrays."""
    image = jnp.zeros((1, 64, 64, 3))
    return RaftSmall().init(key, image, image, iters=1)["params"]


def upsample_flow(flow: Float[Array, "P h w xy=2"]) -> Float[Array, "P H W xy=2"]:
    """Flow in cells to flow in pixels: bilinear with aligned corners; RAFT-small learns no upsampling."""
    return resize_aligned(flow, flow.shape[1] * CELL, flow.shape[2] * CELL) * jnp.float32(CELL)
