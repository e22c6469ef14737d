"""Bilinear sampling, and the one statement of this project's coordinates.

A pixel's position is that of its centre: (0, 0) is the centre of the first pixel, (W - 1, H - 1) that of the last. Flow
is (x, y) in pixels of the frame it belongs to: the point at p in that frame lies at p + flow(p) in the other one.
Images are [..., H, W, C], a clip is [T, H, W, 3], a token index counts (tubelet, row, column) row-major.
"""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float


def pixel_grid(height: int, width: int) -> Float[Array, "H W xy=2"]:
    """Position (x, y) of every pixel's centre, float32."""
    x, y = jnp.meshgrid(jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32))
    return jnp.stack([x, y], axis=-1)


def sample_bilinear(image: Float[Array, "H W"], positions: Float[Array, "*N xy=2"]) -> Float[Array, "*N"]:
    """Values of `image` at `positions` (x, y) in pixels; pixels outside the image count as zero."""
    rows_and_columns = [positions[..., 1], positions[..., 0]]
    values: Array = map_coordinates(image, rows_and_columns, order=1, mode="constant", cval=0.0)
    return values


def inside(positions: Float[Array, "*N xy=2"], height: int, width: int) -> Bool[Array, "*N"]:
    """Whether a position lies within the rectangle spanned by the pixel centres of a `height` x `width` image."""
    x, y = positions[..., 0], positions[..., 1]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def interpolation_matrix(size_in: int, size_out: int) -> Float[Array, "{size_out} {size_in}"]:
    """Linear interpolation of `size_in` samples to `size_out`, first and last samples aligned, as a matrix."""
    step = (size_in - 1) / max(size_out - 1, 1)
    position = jnp.arange(size_out, dtype=jnp.float32) * jnp.float32(step)
    return hat_weights(position, size_in)


def hat_weights(position: Float[Array, "*N"], size: int) -> Float[Array, "*N {size}"]:
    """Weight of each of `size` samples in the linear interpolation at `position`; zero further than one away.

    A product with these weights samples without a gather, and without the 0/0 that scaling positions to [-1, 1] has for
    an axis of one sample.
    """
    distance = jnp.abs(
        position[..., None] - jnp.arange(size, dtype=position.dtype).reshape((1,) * position.ndim + (size,))
    )
    return jnp.maximum(0.0, 1.0 - distance)


def resize_aligned(image: Float[Array, "*B h w C"], height: int, width: int) -> Float[Array, "*B {height} {width} C"]:
    """Bilinear resize with the corner pixels' centres aligned (torch's `align_corners=True`): two products."""
    rows = interpolation_matrix(image.shape[-3], height)
    columns = interpolation_matrix(image.shape[-2], width)
    return read_rows_and_columns(image, rows, columns)


def cell_coordinates(positions: Float[Array, "*N"], size: int, cells: int) -> Float[Array, "*N"]:
    """Positions in pixels along an axis of `size` pixels, as coordinates among the centres of `cells` equal cells.

    A cell's centre is its index; a position nearer the border than the first or last centre takes that centre.
    """
    return jnp.clip((positions + 0.5) * (cells / size) - 0.5, 0.0, cells - 1.0)


def resample_cells(image: Float[Array, "*B h w C"], height: int, width: int) -> Float[Array, "*B {height} {width} C"]:
    """Values at the centres of h x w equal cells of a frame, read at those of `height` x `width` cells: bilinear.

    Where there are fewer cells than before, those in between are passed over, not averaged.
    """
    if image.shape[-3:-1] == (height, width):
        return image
    rows = _reading_matrix(image.shape[-3], height)
    columns = _reading_matrix(image.shape[-2], width)
    return read_rows_and_columns(image, rows, columns)


def _reading_matrix(size_in: int, size_out: int) -> Float[Array, "{size_out} {size_in}"]:
    return hat_weights(cell_coordinates(jnp.arange(size_out, dtype=jnp.float32), size_out, size_in), size_in)


def read_rows_and_columns(
    image: Float[Array, "*B h w C"], rows: Float[Array, "y h"], columns: Float[Array, "x w"]
) -> Float[Array, "*B y x C"]:
    """Values on a grid, by its interpolation weights along both axes; see `hat_weights`."""
    exact = jax.lax.Precision.HIGHEST
    image = jnp.einsum("yh,...hwc->...ywc", rows, image, precision=exact)
    return jnp.einsum("xw,...ywc->...yxc", columns, image, precision=exact)
