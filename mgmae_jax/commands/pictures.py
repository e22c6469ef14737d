"""From a clip to what the pictures of its mask show."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from mgmae_jax.ops.pairs import Direction
from mgmae_jax.runtime.checkpoint import checkpoint_name, find_checkpoint, restore_params
from mgmae_jax.runtime.weights import Checkpoint, Weights
from mgmae_jax.show.panels import MaskedClip
from mgmae_jax.train.masks import MaskDetails
from mgmae_jax.train.pretrain import Pretraining

FLOW_SOURCES = {
    "raft": "RAFT-small",
    "tvl1": "Dual TV-L1",
    "dis": "DIS",
    "stored": "stored flow",
    "codec": "motion vectors",
}
_DIRECTIONS: dict[Direction, str] = {
    "to_base": "from each frame to its neighbour nearer the base frame",
    "from_base": "to each frame from its neighbour nearer the base frame",
    "to_earlier": "between each frame and its neighbour nearer the base frame, towards the earlier of the two",
}


def masked_clip(
    pretraining: Pretraining,
    clip: np.ndarray,
    details: MaskDetails,
    reconstruction: np.ndarray | None,
    title: str,
    untrained: np.ndarray | None = None,
) -> MaskedClip:
    """What pictures show of a clip: its mask and, if there is one, its reconstruction, both by `pretraining`.

    Args:
      pretraining: the masking step and the target.
      clip: uint8 [T, H, W, 3].
      details: what its mask was made of, as host arrays.
      reconstruction: uint8 [T, H, W, 3], or None.
      title: the beginning of the caption, which continues with how to read flow and reconstruction.
      untrained: the reconstruction before training, or None.
    """
    masks = pretraining.masks
    grid, needs_flow = masks.grid, masks.needs_flow
    visible = np.zeros(grid.tokens, bool)
    visible[details.split.visible] = True
    caption = f"{title}. Mask: {masks.mask.strategy}, ratio {masks.mask.ratio:g}."
    if needs_flow:
        caption += f" Flow: {FLOW_SOURCES[masks.flow.source]}, {_DIRECTIONS[masks.mask.direction]}."
        caption += " Tube mask: the visible cubes of the base frame, held still."
    if reconstruction is not None:
        caption += f" Reconstruction: {pretraining.target.note}"
        if len(np.union1d(details.split.visible, details.split.target)) < grid.tokens:
            caption += " Hidden cubes that are not predicted are grey."
    return MaskedClip(
        frames=clip,
        flow=np.asarray(details.flow) if needs_flow else None,
        base=int(details.base),
        mask_map=np.asarray(details.volume),
        visible=visible.reshape(grid.tubelets, grid.rows, grid.columns),
        patch=grid.patch,
        tubelet=grid.tubelet,
        reconstruction=reconstruction,
        caption=caption,
        untrained=untrained,
    )


def mask_and_reconstruct(
    pretraining: Pretraining,
    checkpoint: Checkpoint | None,
    flow_params: Mapping[str, Any],
    clip: np.ndarray,
    flow: Any,
    key: Key[Array, ""],
    title: str,
) -> MaskedClip:
    """Masks one clip and, with a checkpoint, predicts what is hidden.

    Args:
      pretraining: the masking step and the model.
      checkpoint: the model's parameters, as for `restore_params`, or None.
      flow_params: RAFT's parameters, or an empty dict if it does not run.
      clip: uint8 [T, H, W, 3].
      flow: the clip's flow, as in a batch; None if the step computes it or needs none.
      key: the mask's key.
      title: the beginning of the caption.

    Raises:
      FileError: there is no such checkpoint, or it belongs to another model.
    """
    masks = pretraining.masks
    if checkpoint is None:
        own_params = masks.init(key, masks.grid.cube_values)
        details, reconstruction = jax.jit(masks.details)(flow_params, key, clip, flow, own_params), None
    else:
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = jax.eval_shape(pretraining.init, key).params
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes)
        params = restore_params(checkpoint, abstract)
        details, reconstruction = jax.jit(pretraining.reconstruct)(params, flow_params, clip, flow, key)
        own = None if isinstance(checkpoint, Weights) else find_checkpoint(checkpoint)
        title += f". Model: {checkpoint_name(checkpoint) if own is None else f'step {own.name}'}"
    details, reconstruction = jax.device_get((details, reconstruction))
    return masked_clip(pretraining, clip, details, reconstruction, title)
