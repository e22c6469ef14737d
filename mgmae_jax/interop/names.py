"""One table of a video transformer's tensors: what this project, the official programs and Hugging Face call each.

The canonical name is that of VideoMAE's pre-training model ("encoder.blocks.0.attn.qkv.weight", "mask_token"), which
its classifier has without "encoder."; a classifier adds "fc_norm" and "head". The other names, and the layout of the
values, follow from it, both ways.
"""

import dataclasses
import re

import numpy as np
from jaxtyping import Shaped

_BLOCK = (
    "norm1.weight",
    "norm1.bias",
    "attn.q_bias",
    "attn.v_bias",
    "attn.qkv.weight",
    "attn.proj.weight",
    "attn.proj.bias",
    "norm2.weight",
    "norm2.bias",
    "mlp.fc1.weight",
    "mlp.fc1.bias",
    "mlp.fc2.weight",
    "mlp.fc2.bias",
)
_OWN = (
    (r"^encoder_to_decoder\.", "decoder.embed."),
    (r"^mask_token$", "decoder.mask_token"),
    (r"^encoder\.patch_embed\.proj\.", "encoder.patch_embed."),
    (r"^(encoder|decoder)\.blocks\.(\d+)\.", r"\1.blocks.block_\2."),
    (r"^(encoder|decoder)\.norm\.", r"\1.blocks.norm."),
    (r"(norm\d?)\.weight$", r"\1.scale"),
    (r"\.weight$", ".kernel"),
)
_HUGGING_FACE = (
    (r"^encoder\.patch_embed\.proj\.", "videomae.embeddings.patch_embeddings.projection."),
    (r"^encoder\.norm\.", "videomae.layernorm."),
    (r"^encoder\.blocks\.", "videomae.encoder.layer."),
    (r"^decoder\.blocks\.", "decoder.decoder_layers."),
    (r"^head\.", "classifier."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.([qv])_bias$", r".attention.attention.\1_bias"),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
QKV = ".attn.qkv.weight"


@dataclasses.dataclass(frozen=True)
class Parts:
    """Which parts a model has.

    Attributes:
      depth: the encoder's blocks.
      decoder_depth: the decoder's blocks; None without a decoder.
      norm: whether a norm follows the encoder's blocks.
      classifier: whether it ends in fc_norm.
      head: whether a classifier has its head.
      biases: whether queries and values have biases.
    """

    depth: int
    decoder_depth: int | None = None
    norm: bool = False
    classifier: bool = False
    head: bool = True
    biases: bool = True


def canonical_names(parts: Parts) -> tuple[str, ...]:
    """The canonical names of all tensors of a model."""

    def blocks(side: str, depth: int) -> list[str]:
        names = [name for name in _BLOCK if parts.biases or not name.endswith(("q_bias", "v_bias"))]
        return [f"{side}.blocks.{index}.{name}" for index in range(depth) for name in names]

    def both(*layers: str) -> list[str]:
        return [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]

    names = [*both("encoder.patch_embed.proj"), *blocks("encoder", parts.depth)]
    names += both("encoder.norm") if parts.norm else []
    if parts.decoder_depth is not None:
        names += ["encoder_to_decoder.weight", "mask_token"]
        names += [*blocks("decoder", parts.decoder_depth), *both("decoder.norm", "decoder.head")]
    if parts.classifier:
        names += both("fc_norm", "head") if parts.head else both("fc_norm")
    return tuple(names)


def own_name(canonical: str) -> str:
    """This project's name: the path in the parameter tree, with dots."""
    return _renamed(canonical, _OWN)


def official_name(canonical: str, parts: Parts) -> str:
    """The name in a file of the official programs."""
    return canonical.removeprefix("encoder.") if parts.classifier else canonical


def hugging_face_names(canonical: str) -> tuple[str, ...]:
    """The names in a Hugging Face folder: of queries, keys and values where the canonical tensor holds all three.

    Biases have the names that transformers 4 expects and transformers 5 accepts: `q_bias`, not `query.bias`.
    """
    if canonical.endswith(QKV):
        place = _renamed(canonical.removesuffix(QKV) + ".attn.", _HUGGING_FACE).removesuffix("attn.")
        return tuple(f"{place}attention.attention.{part}.weight" for part in ("query", "key", "value"))
    return (_renamed(canonical, _HUGGING_FACE),)


def _renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def own_shape(canonical: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a canonical tensor as this project has it."""
    if canonical == "mask_token":
        return shape[-1:]
    if canonical.endswith("patch_embed.proj.weight"):
        return (int(np.prod(shape[1:])), shape[0])
    return shape[::-1] if _is_matrix(canonical) else shape


def to_own(canonical: str, tensor: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """A canonical tensor's values in this project's layout; a view where there can be one."""
    if canonical == "mask_token":
        return tensor.reshape(-1)
    if canonical.endswith("patch_embed.proj.weight"):
        # A convolution over (channel, frame, row, column); cubes hold (frame, row, column, channel).
        return tensor.transpose(2, 3, 4, 1, 0).reshape(-1, len(tensor))
    return tensor.T if _is_matrix(canonical) else tensor


def from_own(canonical: str, tensor: Shaped[np.ndarray, "..."], cube: tuple[int, int]) -> Shaped[np.ndarray, "..."]:
    """The inverse of `to_own`.

    Args:
      canonical: the tensor's canonical name.
      tensor: its values in this project's layout.
      cube: frames and side in pixels of a token.
    """
    if canonical == "mask_token":
        return tensor.reshape(1, 1, -1)
    if canonical.endswith("patch_embed.proj.weight"):
        frames, side = cube
        return tensor.reshape(frames, side, side, 3, -1).transpose(4, 3, 0, 1, 2)
    return tensor.T if _is_matrix(canonical) else tensor


def _is_matrix(canonical: str) -> bool:
    return canonical.endswith(".weight") and "norm" not in canonical.rsplit(".", 2)[-2]
