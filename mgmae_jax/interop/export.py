"""Models as other programs read them: the official programs' .pth, and Hugging Face folders."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError, FileError, MgmaeError, WeightsError
from mgmae_jax.interop.hugging_face import PREPROCESSOR_FILE, config_json, preprocessor_json
from mgmae_jax.interop.match import Line
from mgmae_jax.interop.model_folder import CONFIG_FILE
from mgmae_jax.interop.names import (
    Parts,
    canonical_names,
    from_own,
    hugging_face_names,
    official_name,
    own_name,
)
from mgmae_jax.interop.safetensors_file import write_tensors
from mgmae_jax.models.positions import find_positions
from mgmae_jax.models.variants import variant_of
from mgmae_jax.runtime.files import REMEDY, whole_file, write_json, write_text
from mgmae_jax.runtime.weights import Weights

CARD_FILE = "README.md"
OTHERS = "other programs' decoders predict normalised pixels"
"""Why a decoder of another target has no place there."""
_DECODER = "decoder."
_TARGET = "normalised"
_MASK = "mask."  # a masking strategy's own parameters, which stay behind


def parts_of(weights: Weights) -> Parts:
    """Which parts a model of this project has that other programs have a place for.

    Raises:
      WeightsError: it has parameters that have no place in models of other programs, or lacks some that they have.
    """
    config = weights.config.model
    behind = (_MASK, _DECODER) if _other_target(weights) else (_MASK,)
    decodes = f"{_DECODER}mask_token" in weights.leaves and _DECODER not in behind
    parts = Parts(
        variant_of(config).depth,
        config.decoder_depth if decodes else None,
        norm="encoder.blocks.norm.scale" in weights.leaves,
        classifier=weights.classes is not None,
    )
    names = {own_name(name) for name in canonical_names(parts)}
    if missing := sorted(names - weights.leaves.keys()):
        raise WeightsError(weights.name, f"has no {missing[0]}, which models of this kind have")
    if strays := sorted(name for name in weights.leaves.keys() - names if not name.startswith(behind)):
        raise WeightsError(weights.name, f"has {strays[0]}, which has no place in models of other programs")
    return parts


def _other_target(weights: Weights) -> str | None:
    """What the decoder predicts, if it is not what other programs' decoders do; None too where there is no decoder."""
    if not any(name.startswith(_DECODER) for name in weights.leaves):
        return None
    target: str = weights.config.get("loss", {}).get("target", _TARGET)
    return target if target != _TARGET else None


def _left_behind(weights: Weights) -> list[Line]:
    """What is said of a decoder that other programs would take for another."""
    target = _other_target(weights)
    return [Line("unused", "decoder", f"predicts {target}, config.loss.target; {OTHERS}")] if target else []


def canonical_tensors(weights: Weights, parts: Parts) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a model under their canonical names, float32, one after another."""
    cube = (weights.config.model.tubelet, weights.config.model.patch)
    for name in canonical_names(parts):
        yield name, from_own(name, weights.values(own_name(name)), cube)


def check_exportable(config: ConfigDict) -> None:
    """Checks that other programs have the positions of a model: the fixed table of its own clips.

    Raises:
      ConfigError: it has others.
    """
    if find_positions(config) != "flat":
        want = "flat: other programs have only the published table of positions"
        raise ConfigError("model.positions", config.model.positions, want)
    for field in ("frames", "size"):
        trained = config.model.get(f"trained_{field}")
        if trained and trained != config.clip[field]:
            want = f"{config.clip[field]}, clip.{field}: other programs do not interpolate positions"
            raise ConfigError(f"model.trained_{field}", trained, want)


def hidden_tokens(weights: Weights) -> str:
    """What to know of a classifier that has a part of the tokens hidden from it (MAR); empty of any other model."""
    if weights.classes is None or not (ratio := weights.config.get("mask", {}).get("ratio", 0)):
        return ""
    return (
        f"Here the encoder sees {1 - ratio:.0%} of a clip's tokens, as it was trained (mask.ratio={ratio}). Other "
        "programs show it all of them, so its scores and its accuracy are not the same there."
    )


def write_pth(path: Path, weights: Weights) -> list[Line]:
    """Writes {"model": state dict, "args": {...}} under the names of the official programs, whole or not at all.

    Of the options that those programs keep in "args", it has the clip's frames and size, which no tensor tells. A
    decoder whose target only this project has stays behind.

    Returns:
      What became of every parameter.

    Raises:
      MgmaeError: PyTorch is not installed, the model has no place there, or the file cannot be written.
    """
    try:
        import torch
    except ImportError as error:
        raise MgmaeError(f"{path}: writing PyTorch's format needs it: pip install 'mgmae-jax[convert]'.") from error
    check_exportable(weights.config)
    parts, state, lines = parts_of(weights), {}, []
    for name, tensor in canonical_tensors(weights, parts):
        state[official_name(name, parts)] = torch.from_numpy(np.ascontiguousarray(tensor))
        lines.append(_line(name, (official_name(name, parts),), tensor, weights))
    clip = weights.config.clip
    with whole_file(path) as partial:
        try:
            torch.save({"model": state, "args": {"num_frames": clip.frames, "input_size": clip.size}}, partial)
        except RuntimeError as error:  # of PyTorch's writer, in the place of an OSError
            raise FileError(path, f"cannot be written ({str(error).partition(chr(10))[0]}): {REMEDY}") from error
    return lines + _left_behind(weights)


def write_hugging_face(
    folder: Path, weights: Weights, card: str, mean_std: tuple[np.ndarray, np.ndarray]
) -> list[Line]:
    """Writes a folder that transformers opens: config.json, preprocessor_config.json, model.safetensors, README.md.

    A decoder whose target only this project has stays behind.

    Args:
      folder: the folder, which exists.
      weights: the model.
      card: the text of README.md.
      mean_std: of the pixels, in [0, 1].

    Returns:
      What became of every parameter.

    Raises:
      MgmaeError: the model has no place there, or a file cannot be written.
    """
    check_exportable(weights.config)
    parts, model, clip = parts_of(weights), weights.config.model, weights.config.clip
    variant = variant_of(model)
    sizes = {
        "image_size": clip.size,
        "num_frames": clip.frames,
        "patch_size": model.patch,
        "tubelet_size": model.tubelet,
        "hidden_size": variant.width,
        "num_hidden_layers": variant.depth,
        "num_attention_heads": variant.heads,
        "intermediate_size": variant.mlp,
    }
    if parts.decoder_depth is not None:
        sizes |= {
            "decoder_hidden_size": variant.decoder_width,
            "decoder_num_hidden_layers": parts.decoder_depth,
            "decoder_num_attention_heads": variant.decoder_heads,
            "decoder_intermediate_size": 4 * variant.decoder_width,
        }
    task = "VideoMAEForVideoClassification" if parts.classifier else "VideoMAEForPreTraining"
    bare = not parts.classifier and parts.decoder_depth is None
    lines: list[Line] = []

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for canonical, tensor in canonical_tensors(weights, parts):
            names = hugging_face_names(canonical)
            names = tuple(name.removeprefix("videomae.") for name in names) if bare else names
            lines.append(_line(canonical, names, tensor, weights))
            yield from zip(names, np.split(tensor, len(names)) if len(names) > 1 else [tensor], strict=True)

    write_tensors(folder / "model.safetensors", tensors(), {"format": "pt"})
    architecture = "VideoMAEModel" if bare else task
    pooled = parts.classifier or not parts.norm
    about = config_json(
        architecture=architecture, sizes=sizes, eps=variant.eps, mean_pooling=pooled, classes=weights.classes
    )
    write_json(folder / CONFIG_FILE, about)
    write_json(folder / PREPROCESSOR_FILE, preprocessor_json(clip.size, *mean_std))
    write_text(folder / CARD_FILE, card)
    return lines + _left_behind(weights)


def _line(canonical: str, names: tuple[str, ...], tensor: np.ndarray, weights: Weights) -> Line:
    own = own_name(canonical)
    same = len(names) == 1 and weights.leaves[own].shape == tensor.shape and tensor.ndim < 2
    return Line("used" if same else "reshaped", own, f"{', '.join(names)} {list(tensor.shape)}")
