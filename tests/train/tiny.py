"""A pre-training small enough to compile in seconds, and batches for it."""

import functools
from typing import Any

import jax
import numpy as np

from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.variants import Variant
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.mesh import make_mesh, tree_shardings
from mgmae_jax.runtime.rng import stream
from mgmae_jax.train.masks import FlowOptions, MaskStep
from mgmae_jax.train.optim import adamw_direction, cosine_schedule
from mgmae_jax.train.pretrain import Pretraining
from mgmae_jax.train.state import TrainState

VARIANT = Variant(24, 1, 2, 48, 12, 2)


def tiny_pretraining(
    *, size: int = 32, flow: str = "none", accumulate: int = 1, rate: float = 1e-3, **mask: Any
) -> Pretraining:
    """Clips of 4 frames, patches of 8 pixels, half of the tokens visible."""
    grid = TokenGrid(4, size, size, patch=8)
    masks = MaskStep(grid, MaskOptions(ratio=0.5, **mask), FlowOptions(flow, iters=1))
    optimiser = adamw_direction(b1=0.9, b2=0.95, weight_decay=0.05)
    schedule = cosine_schedule(rate, rate, steps=100, warmup_steps=0)
    return Pretraining(MaskedAutoencoder(VARIANT, grid, 1), masks, optimiser, schedule, accumulate)


def tiny_state(pretraining: Pretraining, mesh: jax.sharding.Mesh | None = None) -> TrainState:
    """On `mesh`, by default that of all devices; of the same parameters for the same size of clip."""
    mesh = make_mesh() if mesh is None else mesh
    copy = jax.tree.map(np.copy, _host_state(pretraining.grid))  # what is put on a CPU may share its memory
    return jax.device_put(copy, tree_shardings(mesh, copy))


@functools.cache
def _host_state(grid: TokenGrid) -> TrainState:
    size = grid.height
    init = jax.jit(tiny_pretraining(size=size, strategy="tube").init)
    return jax.device_get(init(stream(jax.random.key(0), 0, "init")))


def random_batch(step: int, *, size: int = 32, clips: int = 8, flow: bool = False) -> dict[str, np.ndarray]:
    """Noise; with `flow` also a stored flow of a pixel or so."""
    rng = np.random.default_rng(step)
    batch = {"clip": rng.integers(0, 256, (clips, 4, size, size, 3), np.uint8)}
    if flow:
        batch["flow"] = rng.normal(size=(clips, 3, size, size, 2)).astype(np.float32)
    return batch
