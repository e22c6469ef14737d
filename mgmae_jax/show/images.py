"""Pictures inside a page."""

from __future__ import annotations

import io

from PIL import Image

from mgmae_jax.show.page import data_uri


def image_uri(image: Image.Image, most_width: int, quality: int = 80) -> str:
    """A picture as WebP in an address that holds it.

    Args:
      image: RGB.
      most_width: in pixels; a wider picture is made smaller.
      quality: of WebP, 0 to 100.
    """
    if image.width > most_width:
        size = most_width, max(1, round(image.height * most_width / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, "WEBP", quality=quality)
    return data_uri(written.getvalue(), "image/webp")
