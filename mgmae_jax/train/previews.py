"""Pictures of one clip during pre-training: its mask, and the model's prediction of the hidden cubes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.sources import VideoList
from mgmae_jax.flow.packed import given_flow
from mgmae_jax.ops.placement import on_mesh
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import put_replicated
from mgmae_jax.runtime.rng import stream
from mgmae_jax.runtime.session import OpenRun
from mgmae_jax.train.clips import open_clips
from mgmae_jax.train.loop import Hook
from mgmae_jax.train.masks import MaskDetails
from mgmae_jax.train.state import TrainState

if TYPE_CHECKING:
    from mgmae_jax.train.pretrain import Pretraining

Draw = Callable[["Pretraining", int, np.ndarray, MaskDetails, np.ndarray, np.ndarray | None], None]
"""Draws a preview of host arrays: (what runs, steps done, clip uint8 [T, H, W, 3], mask, reconstruction like the clip,
the same at step 0 if this process was there)."""


def preview_hook(
    config: ConfigDict,
    pretraining: Pretraining,
    videos: VideoList,
    flow_params: Mapping[str, Any],
    opened: OpenRun,
    draw: Draw,
) -> Hook:
    """Draws the data's first clip, always with the same mask: before the first step, at intervals, at the end."""
    example: dict[str, np.ndarray] = {}
    untrained: list[np.ndarray] = []

    def reconstruct(params: Any, flow_params: Any, clip: jax.Array, flow: Any, key: jax.Array) -> Any:
        return pretraining.reconstruct(params, flow_params, clip, flow, stream(key, 0, "mask"))

    jitted = jax.jit(on_mesh(reconstruct, opened.mesh))

    def hook(done: int, state: TrainState) -> None:
        if done not in (0, opened.total) and not (config.preview.every and done % config.preview.every == 0):
            return
        if not example:
            one = BatchSpec(batch_size=1, views=1, seed=config.seed, workers=0)
            # A bad video is reported when the run itself reaches it.
            with open_clips(config, pretraining.masks, videos, 0, lambda path, reason: None, one) as batches:
                example.update({name: array[0] for name, array in next(batches).items()})
        inputs = put_replicated((flow_params, example["clip"], given_flow(example), opened.key), opened.mesh)
        details, clip = jax.device_get(jitted(state.params, *inputs))
        if is_primary():
            draw(pretraining, done, example["clip"], details, clip, untrained[0] if untrained else None)
            if done == 0:
                untrained.append(clip)

    return hook
