"""VideoMAE's and MGMAE's PyTorch pre-training weights as this project's parameter tree."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mgmae_jax.errors import WeightsError

_RENAMES = [
    (r"^encoder_to_decoder\.", "decoder.embed."),
    (r"^mask_token$", "decoder.mask_token"),
    (r"^encoder\.patch_embed\.proj\.", "encoder.patch_embed."),
    (r"^(encoder|decoder)\.blocks\.(\d+)\.", r"\1.blocks.block_\2."),
    (r"^(encoder|decoder)\.norm\.", r"\1.blocks.norm."),
    (r"(norm\d?)\.weight$", r"\1.scale"),
    (r"\.weight$", ".kernel"),
]


def pretrain_params_from_torch(tensors: Mapping[str, np.ndarray], path: str) -> dict[str, Any]:
    """The parameter tree of `models.mae.MaskedAutoencoder` from the official pre-training model's state dict.

    Args:
      tensors: by the names of VideoMAE's pre-training model, linear weights [out, in].
      path: of the file, for the error message.

    Raises:
      WeightsError: a tensor's name is none of that model's.
    """
    tree: dict[str, Any] = {}
    for torch_name, tensor in tensors.items():
        name = torch_name
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        *parents, leaf = name.split(".")
        if not parents or parents[0] not in ("encoder", "decoder"):
            raise WeightsError(path, f"tensor {torch_name!r} has no place in a VideoMAE pre-training model")
        if torch_name == "encoder.patch_embed.proj.weight":
            # A convolution over (channel, frame, row, column); cubes hold (frame, row, column, channel).
            tensor = tensor.transpose(0, 2, 3, 4, 1).reshape(len(tensor), -1)
        if leaf == "kernel":
            tensor = tensor.T
        elif leaf == "mask_token":
            tensor = tensor.reshape(-1)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = tensor
    return tree
