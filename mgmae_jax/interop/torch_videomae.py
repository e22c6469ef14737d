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
      tensors: the tensors by the names of VideoMAE's pre-training model, linear weights [out, in].
      path: the file, for the error message.

    Raises:
      WeightsError: a tensor's name is not one of that model's.
    """
    return _tree(tensors, path, ("encoder", "decoder"), "a VideoMAE pre-training model")


def classifier_params_from_torch(tensors: Mapping[str, np.ndarray], path: str) -> dict[str, Any]:
    """The parameter tree of `models.classifier.Classifier` from the official fine-tuning model's state dict.

    Args:
      tensors: the tensors by the names of VideoMAE's classifier with mean pooling, linear weights [out, in].
      path: the file, for the error message.

    Raises:
      WeightsError: a tensor's name is not one of that model's.
    """
    top = ("fc_norm.", "head.")
    named = {name if name.startswith(top) else f"encoder.{name}": tensor for name, tensor in tensors.items()}
    return _tree(named, path, ("encoder", "fc_norm", "head"), "a VideoMAE classifier")


def _tree(tensors: Mapping[str, np.ndarray], path: str, roots: tuple[str, ...], model: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for torch_name, tensor in tensors.items():
        name = torch_name
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        *parents, leaf = name.split(".")
        if not parents or parents[0] not in roots:
            raise WeightsError(path, f"tensor {torch_name!r} has no place in {model}")
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
