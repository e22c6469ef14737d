"""All-pairs correlation of two feature maps, and its lookup around moving positions (RAFT, sections 3.2 and 3.3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mgmae_jax.ops.sampling import hat_weights

LEVELS = 4
RADIUS = 3
EXACT = jax.lax.Precision.HIGHEST


def correlation_pyramid(
    features1: Float[Array, "P h w C"], features2: Float[Array, "P h w C"]
) -> list[Float[Array, "P N _ _"]]:
    """Dot product of every pixel of map 1 with every pixel of map 2, over sqrt(C), at four scales of map 2.

    Returns:
      Per level, [P, N = h * w, h / 2^level, w / 2^level] in float32; the halves are rounded down.
    """
    pairs, height, width, channels = features1.shape
    one = features1.astype(jnp.float32).reshape(pairs, height * width, channels)
    two = features2.astype(jnp.float32)
    pyramid = []
    for level in range(LEVELS):
        if level:
            # Pooling map 2 and pooling the correlation are the same: the product is linear in map 2.
            two = _halve(two)
        correlation = jnp.einsum("pnc,pabc->pnab", one, two, precision=EXACT) * jnp.float32(channels**-0.5)
        pyramid.append(correlation)
    return pyramid


def _halve(x: Float[Array, "P H W C"]) -> Float[Array, "P h w C"]:
    pairs, height, width, channels = x.shape
    height, width = height // 2, width // 2
    return x[:, : 2 * height, : 2 * width].reshape(pairs, height, 2, width, 2, channels).mean(axis=(2, 4))


def lookup(pyramid: list[Float[Array, "P N _ _"]], positions: Float[Array, "P h w xy=2"]) -> Float[Array, "P h w D"]:
    """Correlation in a 7x7 window around `positions` (x, y in cells of map 2) at every level, zero outside.

    The window is sampled by products with bilinear weights, which accelerators run faster than a gather: multiplied and
    summed one after another with the pixels of map 1 along the fastest axis, since an array that ends in 7x7 windows
    fills a tenth of the memory that a TPU's tiles take. The order of a window follows RAFT's code: the slower index
    moves along x.

    Returns:
      [P, h, w, levels * 49].
    """
    pairs, height, width, _ = positions.shape
    offsets = jnp.arange(-RADIUS, RADIUS + 1, dtype=jnp.float32).reshape(1, -1, 1)
    windows = []
    for level, correlation in enumerate(pyramid):
        centre = positions.reshape(pairs, 1, height * width, 2) / 2**level
        columns = hat_weights(centre[..., 0] + offsets, correlation.shape[3])
        rows = hat_weights(centre[..., 1] + offsets, correlation.shape[2])
        # [P, rows of the window, its columns, map 2's rows, map 2's columns, N], without those that are summed.
        columns, rows = columns.transpose(0, 1, 3, 2), rows.transpose(0, 1, 3, 2)
        window = (rows[:, :, :, None] * correlation.transpose(0, 2, 3, 1)[:, None]).sum(axis=2)
        window = (columns[:, :, None] * window[:, None]).sum(axis=3)
        windows.append(window.reshape(pairs, -1, height * width))
    return jnp.concatenate(windows, axis=1).transpose(0, 2, 1).reshape(pairs, height, width, -1)


def lookup_for_gradient(
    pyramid: list[Float[Array, "P N _ _"]], positions: Float[Array, "P h w xy=2"]
) -> Float[Array, "P h w D"]:
    """What `lookup` gives, as products of matrices: the form that training differentiates.

    The gradient of `lookup` inside a `lax.scan` is wrong as jax 0.10.2 compiles it for a CPU (a test holds the gradient
    of both programs of RAFT equal), while its values, and its gradient outside of a loop, are right.
    """
    pairs, height, width, _ = positions.shape
    offsets = jnp.arange(-RADIUS, RADIUS + 1, dtype=jnp.float32).reshape(1, 1, -1)
    windows = []
    for level, correlation in enumerate(pyramid):
        centre = positions.reshape(pairs, height * width, 2) / 2**level
        columns = hat_weights(centre[..., 0, None] + offsets, correlation.shape[3])
        rows = hat_weights(centre[..., 1, None] + offsets, correlation.shape[2])
        window = jnp.einsum("pnya,pnab->pnyb", rows, correlation, precision=EXACT)
        window = jnp.einsum("pnxb,pnyb->pnxy", columns, window, precision=EXACT)
        windows.append(window.reshape(pairs, height, width, -1))
    return jnp.concatenate(windows, axis=-1)


def lookup_by_gather(
    pyramid: list[Float[Array, "P N _ _"]], positions: Float[Array, "P h w xy=2"]
) -> Float[Array, "P h w D"]:
    """The same as `lookup`, with one gather of 8x8 cells per window: two and a half times faster on a CPU."""
    pairs, height, width, _ = positions.shape
    offsets = jnp.arange(-RADIUS, RADIUS + 2, dtype=jnp.int32).reshape(1, 1, -1)
    windows = []
    for level, correlation in enumerate(pyramid):
        rows, columns = correlation.shape[2:]
        centre = positions.reshape(pairs, height * width, 2) / 2**level
        corner = jnp.floor(centre)
        fraction = (centre - corner)[..., None, None]
        x = corner[..., 0, None].astype(jnp.int32) + offsets
        y = corner[..., 1, None].astype(jnp.int32) + offsets
        inside = ((y >= 0) & (y < rows))[..., None, :] & ((x >= 0) & (x < columns))[..., None]
        cell = jnp.clip(y, 0, rows - 1)[..., None, :] * columns + jnp.clip(x, 0, columns - 1)[..., None]
        flat = correlation.reshape(pairs, height * width, rows * columns)
        cell = cell.reshape(*cell.shape[:2], -1)
        window = jnp.take_along_axis(flat, cell, axis=2, mode="promise_in_bounds").reshape(inside.shape)
        window = jnp.where(inside, window, 0.0)
        window = window[:, :, :-1] * (1 - fraction[:, :, 0]) + window[:, :, 1:] * fraction[:, :, 0]
        window = window[..., :-1] * (1 - fraction[:, :, 1]) + window[..., 1:] * fraction[:, :, 1]
        windows.append(window.reshape(pairs, height, width, -1))
    return jnp.concatenate(windows, axis=-1)
