"""The recurrent update of RAFT-small: motion encoder, convolutional GRU of 96 channels, flow head."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mgmae_jax.flow.encoder import conv

HIDDEN = 96
CONTEXT = 64
MOTION = 82


class MotionEncoder(nn.Module):
    """Features of the correlation window and the present flow: 80 learned channels and the flow itself."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, window: Float[Array, "P h w D"], flow: Float[Array, "P h w xy=2"]) -> Float[Array, "P h w 82"]:
        """`window` is the correlation lookup, `flow` in cells."""
        flow = flow.astype(self.dtype)
        correlation = nn.relu(conv(96, 1, dtype=self.dtype, name="correlation")(window.astype(self.dtype)))
        motion = nn.relu(conv(64, 7, dtype=self.dtype, name="flow1")(flow))
        motion = nn.relu(conv(32, 3, dtype=self.dtype, name="flow2")(motion))
        both = jnp.concatenate([correlation, motion], axis=-1)
        return jnp.concatenate([nn.relu(conv(80, 3, dtype=self.dtype, name="out")(both)), flow], axis=-1)


class Gate(nn.Module):
    """The kernel and bias of one GRU gate, over (hidden, context, motion) channels."""

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "3 3 I O"], Float[Array, "O"]]:
        """Returns (kernel, bias)."""
        inputs = HIDDEN + CONTEXT + MOTION
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, inputs, HIDDEN))
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
        x = nn.relu(conv(128, 3, dtype=self.dtype, name="conv1")(hidden))
        return conv(2, 3, dtype=self.dtype, name="conv2")(x).astype(jnp.float32)
