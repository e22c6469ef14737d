"""RAFT-small (Teed and Deng, 2020): optical flow by recurrent refinement, with one upsampling at the end."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mgmae_jax.flow.correlation import correlation_pyramid, lookup, lookup_by_gather, lookup_for_gradient
from mgmae_jax.flow.encoder import Encoder, conv
from mgmae_jax.ops.sampling import pixel_grid, resize_aligned

CELL = 8
"""Pixels to a side of one cell of the flow that the network refines."""
HIDDEN, CONTEXT, MOTION = 96, 64, 82  # channels of the recurrent update
UPDATE_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""How RAFT's code draws the kernels of the recurrent update: torch's default. It has to be as small as this: the
correlation is large, and gates that it saturates at first stay so, which leaves the context and later updates without
effect."""


def _conv(features: int, size: int, *, dtype: DTypeLike, name: str) -> nn.Module:
    return conv(features, size, dtype=dtype, name=name, init=UPDATE_INIT)


class MotionEncoder(nn.Module):
    """Features of the correlation window and the present flow: 80 learned channels and the flow itself."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, window: Float[Array, "P h w D"], flow: Float[Array, "P h w xy=2"]) -> Float[Array, "P h w 82"]:
        """`window` is the correlation lookup, `flow` in cells."""
        flow = flow.astype(self.dtype)
        correlation = nn.relu(_conv(96, 1, dtype=self.dtype, name="correlation")(window.astype(self.dtype)))
        motion = nn.relu(_conv(64, 7, dtype=self.dtype, name="flow1")(flow))
        motion = nn.relu(_conv(32, 3, dtype=self.dtype, name="flow2")(motion))
        both = jnp.concatenate([correlation, motion], axis=-1)
        return jnp.concatenate([nn.relu(_conv(80, 3, dtype=self.dtype, name="out")(both)), flow], axis=-1)


class Gate(nn.Module):
    """The kernel and bias of one GRU gate, over (hidden, context, motion) channels."""

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "3 3 I O"], Float[Array, "O"]]:
        """Returns (kernel, bias)."""
        inputs = HIDDEN + CONTEXT + MOTION
        kernel = self.param("kernel", UPDATE_INIT, (3, 3, inputs, HIDDEN))
        return kernel, self.param("bias", nn.initializers.zeros, (HIDDEN,))


class ConvGRU(nn.Module):
    """A GRU with 3x3 convolutions whose context part is convolved once, since it enters every gate linearly."""

    dtype: DTypeLike

    def setup(self) -> None:
        """Names the gates: update, reset, candidate."""
        self.update, self.reset, self.candidate = Gate(), Gate(), Gate()

    def _kernels(self) -> tuple[Array, Array]:
        gates = [self.update(), self.reset(), self.candidate()]
        kernel = jnp.concatenate([kernel for kernel, _ in gates], axis=-1).astype(self.dtype)
        return kernel, jnp.concatenate([bias for _, bias in gates]).astype(self.dtype)

    def context_part(self, context: Float[Array, "P h w 64"]) -> Float[Array, "P h w 288"]:
        """What the context and the biases add to the three gates at every iteration."""
        kernel, bias = self._kernels()
        return _convolve(context, kernel[:, :, HIDDEN : HIDDEN + CONTEXT]) + bias.reshape(1, 1, 1, -1)

    def __call__(
        self,
        hidden: Float[Array, "P h w 96"],
        context_part: Float[Array, "P h w 288"],
        motion: Float[Array, "P h w 82"],
    ) -> Float[Array, "P h w 96"]:
        """One step: returns the new hidden state."""
        kernel, _ = self._kernels()
        kernel = jnp.concatenate([kernel[:, :, :HIDDEN], kernel[:, :, HIDDEN + CONTEXT :]], axis=2)
        two = 2 * HIDDEN
        gates = _convolve(jnp.concatenate([hidden, motion], axis=-1), kernel[..., :two]) + context_part[..., :two]
        update, reset = jnp.split(nn.sigmoid(gates), 2, axis=-1)
        candidate = _convolve(jnp.concatenate([reset * hidden, motion], axis=-1), kernel[..., two:])
        candidate = jnp.tanh(candidate + context_part[..., two:])
        return (1 - update) * hidden + update * candidate


def _convolve(x: Float[Array, "P h w I"], kernel: Float[Array, "3 3 I O"]) -> Float[Array, "P h w O"]:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


class FlowHead(nn.Module):
    """The change of flow, in cells, that the hidden state asks for."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, hidden: Float[Array, "P h w 96"]) -> Float[Array, "P h w xy=2"]:
        """Returns the update in float32."""
        x = nn.relu(_conv(128, 3, dtype=self.dtype, name="conv1")(hidden))
        return _conv(2, 3, dtype=self.dtype, name="conv2")(x).astype(jnp.float32)


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
        """Context features of images in [-1, 1]: the GRU's initial state and constant input, before activation."""
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
        errors: Float[Array, "{iters} P h w xy=2"] | None = None,
    ) -> Float[Array, "*I P h w xy=2"]:
        """Flow from map 1 to map 2 in cells, after `iters` updates from zero; with `every`, after each update, [iters,
        ...]. `errors`, in training, are added to the flow before each update.

        The updates are a `lax.scan`; with `for_cpu` they are unrolled and look the correlation up by gather, because
        XLA's CPU backend runs convolutions inside a loop, and small batched products, on slow paths.
        """
        pyramid = correlation_pyramid(features1, features2)
        hidden = jnp.tanh(context[..., :HIDDEN])
        context_part = self.gru.context_part(nn.relu(context[..., HIDDEN:]))
        pairs, height, width, _ = features1.shape
        start = pixel_grid(height, width)[None]
        look_up = lookup_by_gather if for_cpu else lookup_for_gradient if every else lookup

        def update(
            self: "RaftSmall", carry: tuple[Array, Array], error: Array | None
        ) -> tuple[tuple[Array, Array], Array | None]:
            hidden, flow = carry
            flow = jax.lax.stop_gradient(flow)  # each update learns only its own step
            if error is not None:
                flow = flow + error
            window = look_up(pyramid, start + flow)
            hidden = self.gru(hidden, context_part, self.motion_encoder(window, flow))
            flow = flow + self.flow_head(hidden)
            return (hidden, flow), flow if every else None

        carry = (hidden, jnp.zeros((pairs, height, width, 2), jnp.float32))
        if for_cpu:
            each = []
            for number in range(iters):
                carry = update(self, carry, None if errors is None else errors[number])[0]
                each.append(carry[1])
            return jnp.stack(each) if every else carry[1]
        scan = nn.scan(update, variable_broadcast="params", split_rngs={"params": False}, length=iters)
        carry, flows = scan(self, carry, errors)
        return carry[1] if flows is None else flows

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
