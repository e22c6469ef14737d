"""A small clip with everything that strips and animations show of it."""

import numpy as np

from mgmae_jax.show.panels import MaskedClip

PATCH, TUBELET, BASE = 8, 2, 3


def example(*, frames: int = 8, height: int = 32, width: int = 48) -> MaskedClip:
    """Frames are dark and reconstructions bright, so that neither looks like hidden cubes."""
    rng = np.random.default_rng(0)
    flow = rng.normal(0.0, 2.0, (frames, height, width, 2)).astype(np.float32)
    flow[BASE] = 0.0
    tokens = (frames // TUBELET, height // PATCH, width // PATCH)
    return MaskedClip(
        frames=rng.integers(0, 100, (frames, height, width, 3), np.uint8),
        flow=flow,
        base=BASE,
        mask_map=rng.uniform(size=(frames, height, width)).astype(np.float32),
        visible=rng.uniform(size=tokens) < 0.25,
        patch=PATCH,
        tubelet=TUBELET,
        reconstruction=rng.integers(200, 256, (frames, height, width, 3), np.uint8),
        caption="a caption",
    )
