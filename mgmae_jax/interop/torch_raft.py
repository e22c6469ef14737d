"""RAFT-small weights under the two PyTorch layouts in use, as this project's parameter tree."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from mgmae_jax.errors import WeightsError

_ENCODERS = {"fnet": "feature_encoder", "cnet": "context_encoder"}

# torchvision's names, as regular expressions, and what princeton-vl calls the same tensor.
_TORCHVISION = [
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^((?:fnet|cnet)\.)convnormrelu\.0\.", r"\1conv1."),
    (r"^((?:fnet|cnet)\.)conv\.", r"\1conv2."),
    (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
    (r"\.motion_encoder\.convcorr1\.0\.", ".encoder.convc1."),
    (r"\.motion_encoder\.convflow1\.0\.", ".encoder.convf1."),
    (r"\.motion_encoder\.convflow2\.0\.", ".encoder.convf2."),
    (r"\.motion_encoder\.conv\.0\.", ".encoder.conv."),
    (r"\.recurrent_block\.convgru1\.", ".gru."),
]

# princeton-vl's names and the path in the parameter tree.
_PATHS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^(fnet|cnet)\.conv1\.", lambda m: f"{_ENCODERS[m[1]]}.stem."),
    (r"^(fnet|cnet)\.conv2\.", lambda m: f"{_ENCODERS[m[1]]}.out."),
    (r"^(fnet|cnet)\.layer(\d)\.(\d)\.downsample\.0\.", lambda m: _block(m) + "downsample."),
    (r"^(fnet|cnet)\.layer(\d)\.(\d)\.", lambda m: _block(m)),
    (r"^update_block\.encoder\.convc1\.", "motion_encoder.correlation."),
    (r"^update_block\.encoder\.convf(\d)\.", r"motion_encoder.flow\1."),
    (r"^update_block\.encoder\.conv\.", "motion_encoder.out."),
    (r"^update_block\.gru\.convz\.", "gru.update."),
    (r"^update_block\.gru\.convr\.", "gru.reset."),
    (r"^update_block\.gru\.convq\.", "gru.candidate."),
    (r"^update_block\.flow_head\.", "flow_head."),
]


def _block(match: re.Match[str]) -> str:
    return f"{_ENCODERS[match[1]]}.stage{int(match[2]) - 1}_block{match[3]}."


def tree_path(torch_name: str) -> tuple[str, ...]:
    """Path in the parameter tree of a tensor by its name in either layout; an unknown name comes back unmapped."""
    name = torch_name.removeprefix("module.")
    for pattern, replacement in _TORCHVISION:
        name = re.sub(pattern, replacement, name)
    for pattern, path in _PATHS:
        name, found = re.subn(pattern, path, name)
        if found:
            break
    return tuple(re.sub(r"\.weight$", ".kernel", name).split("."))


def is_raft(names: Iterable[str]) -> bool:
    """Whether the names of tensors are those of a RAFT, in either layout."""
    return any(name.removeprefix("module.").startswith(("fnet.", "feature_encoder.")) for name in names)


def params_from_torch(tensors: Mapping[str, np.ndarray], path: str) -> dict[str, Any]:
    """The parameter tree of `flow.raft.RaftSmall` from a PyTorch state dict.

    Args:
      tensors: the tensors by the names of princeton-vl/RAFT (with or without "module.") or of torchvision; OIHW
        kernels.
      path: the file, for the error message.

    Raises:
      WeightsError: two tensors map to one place.
    """
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *parents, leaf = tree_path(name)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise WeightsError(path, f"tensor {name!r} has no place in RAFT-small")
        if leaf in node:
            raise WeightsError(path, f"tensor {name!r} occurs twice")
        node[leaf] = np.transpose(tensor, (2, 3, 1, 0)) if tensor.ndim == 4 else tensor
    return tree
