"""The two convolutional encoders of RAFT-small (Teed and Deng, 2020), at an eighth of the resolution."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

ENCODER_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""How RAFT's code draws the encoders' kernels (He et al., 2015)."""


def instance_norm(x: Float[Array, "*B H W C"]) -> Float[Array, "*B H W C"]:
    """Subtracts each channel's mean over the image and divides by its standard deviation (eps 1e-5, no affine part)."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=(-3, -2), keepdims=True)
    variance = jnp.square(wide - mean).mean(axis=(-3, -2), keepdims=True)
    return ((wide - mean) * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)


class Pointwise(nn.Module):
    """A 1x1 convolution, as a matrix product: XLA's CPU backend runs that two to five times faster."""

    features: int
    stride: int
    dtype: DTypeLike
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        """Returns the features of every `stride`-th pixel."""
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        x = x[:, :: self.stride, :: self.stride].astype(self.dtype)
        return x @ kernel[0, 0].astype(self.dtype) + bias.reshape(1, 1, 1, -1)


def conv(
    features: int,
    size: int,
    stride: int = 1,
    *,
    dtype: DTypeLike,
    name: str,
    init: nn.initializers.Initializer = ENCODER_INIT,
) -> nn.Module:
    """A convolution with torch's symmetric padding, whose output at stride 2 sits on the even pixels."""
    if size == 1:
        return Pointwise(features, stride, dtype, init, name=name)
    sides, pad = (size, size), (size // 2, size // 2)
    return nn.Conv(features, sides, (stride, stride), [pad, pad], dtype=dtype, kernel_init=init, name=name)


class Stem(nn.Module):
    """The 7x7 convolution of stride 2 from 3 to 32 channels, run as 4x4 of stride 1 on 2x2 blocks of 12 channels.

    Three input channels fill neither a matrix unit nor a vector register; twelve do better (on a CPU four times).
    """

    dtype: DTypeLike

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B h w 32"]:
        """Returns the features at half the resolution; H and W must be even."""
        kernel = self.param("kernel", ENCODER_INIT, (7, 7, 3, 32)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (32,)).astype(self.dtype)
        # An eighth row and column of zeros turn the kernel into 4x4 blocks, three pixels of padding into whole ones.
        kernel = _two_by_two(jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0))).transpose(3, 0, 1, 2))
        features = jax.lax.conv_general_dilated(
            _two_by_two(image), kernel, (1, 1), [(2, 1), (2, 1)], dimension_numbers=("NHWC", "OHWI", "NHWC")
        )
        return features + bias.reshape(1, 1, 1, -1)


def _two_by_two(x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


class Bottleneck(nn.Module):
    """Residual block 1x1, 3x3, 1x1 with a quarter of the width inside; normalised after each if `norm`."""

    features: int
    stride: int
    norm: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        """Returns the block's features, at 1/stride of the resolution."""
        norm = instance_norm if self.norm else lambda y: y
        y = nn.relu(norm(conv(self.features // 4, 1, dtype=self.dtype, name="conv1")(x)))
        y = nn.relu(norm(conv(self.features // 4, 3, self.stride, dtype=self.dtype, name="conv2")(y)))
        y = nn.relu(norm(conv(self.features, 1, dtype=self.dtype, name="conv3")(y)))
        if self.stride > 1:
            x = norm(conv(self.features, 1, self.stride, dtype=self.dtype, name="downsample")(x))
        return nn.relu(x + y)


class Encoder(nn.Module):
    """RAFT's SmallEncoder: 7x7 stem, three stages of two bottlenecks, 1x1 output.

    Args:
      features: channels of the output: 128 for matching features, 160 for context.
      norm: instance normalisation (the feature encoder) or none (the context encoder).
    """

    features: int
    norm: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B h w D"]:
        """Features of images in [-1, 1] whose sides divide by 8."""
        x = Stem(self.dtype, name="stem")(image.astype(self.dtype))
        x = nn.relu(instance_norm(x) if self.norm else x)
        for stage, (features, stride) in enumerate([(32, 1), (64, 2), (96, 2)]):
            for block in range(2):
                first = stride if block == 0 else 1
                x = Bottleneck(features, first, self.norm, self.dtype, name=f"stage{stage}_block{block}")(x)
        return conv(self.features, 1, dtype=self.dtype, name="out")(x)
