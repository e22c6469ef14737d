"""Hugging Face's description of a VideoMAE model, config.json, both ways."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.tensor_files import read_json

# The norms that transformers makes without `layer_norm_eps` have PyTorch's default.
LAST_EPS = 1e-5
_MOST = 1 << 16


@dataclasses.dataclass(frozen=True)
class Described:
    """What config.json says of a model.

    Attributes:
      frames: of its clips.
      size: their side in pixels.
      heads: attention heads of the encoder.
      decoder_heads: those of the decoder.
      eps: of its norms.
      last_eps: of the norms that have no option.
      classes: the names of its classes, by label; None if they have none.
      mean_pooling: whether a head would see the mean of the tokens.
      sizes: those that the tensors have too, as far as it states them: see `SIZES`.
    """

    frames: int
    size: int
    heads: int
    decoder_heads: int
    eps: float
    last_eps: float
    classes: tuple[str, ...] | None
    mean_pooling: bool
    sizes: Mapping[str, int]


SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "patch_size",
    "tubelet_size",
    "decoder_hidden_size",
    "decoder_num_hidden_layers",
)
"""Fields of config.json that say what the shapes of the tensors say."""
PREPROCESSOR_FILE = "preprocessor_config.json"
# Of transformers' VideoMAEConfig: what a config.json leaves out.
_DEFAULTS = {
    "num_frames": 16,
    "image_size": 224,
    "num_attention_heads": 12,
    "decoder_num_attention_heads": 6,
}


def describe(path: Path) -> Described:
    """Reads a config.json of `VideoMAEForPreTraining`, `VideoMAEForVideoClassification` or `VideoMAEModel`.

    Raises:
      WeightsError: it is damaged, or describes a model that this project does not have.
    """
    config = read_json(path)
    if config.get("model_type") != "videomae":
        raise WeightsError(path, f"describes a model of type {config.get('model_type')!r:.100}: give one of videomae")
    numbers = {field: config.get(field, value) for field, value in _DEFAULTS.items()}
    if isinstance(numbers["image_size"], list) and len(set(map(str, numbers["image_size"]))) == 1:
        numbers["image_size"] = numbers["image_size"][0]
    for field, value in numbers.items():
        if type(value) is not int or not 0 < value < _MOST:
            raise WeightsError(path, f"{field}={value!r:.100}: give a whole number above 0")
    for field, want in (("hidden_act", "gelu"), ("num_channels", 3), ("norm_pix_loss", True)):
        if (value := config.get(field, want)) != want:
            raise WeightsError(path, f"{field}={value!r:.100}: this project has only {want!r}")
    eps = config.get("layer_norm_eps", 1e-12)
    if type(eps) not in (int, float) or not 0 < eps < 1:
        raise WeightsError(path, f"layer_norm_eps={eps!r:.100}: give a number above 0 and below 1")
    return Described(
        frames=numbers["num_frames"],
        size=numbers["image_size"],
        heads=numbers["num_attention_heads"],
        decoder_heads=numbers["decoder_num_attention_heads"],
        eps=float(eps),
        last_eps=LAST_EPS,
        classes=_classes(config.get("id2label"), path),
        mean_pooling=config.get("use_mean_pooling", True) is True,
        sizes={field: config[field] for field in SIZES if field in config},
    )


def reads_first_token(described: Described, classifier: bool, path: Path) -> None:
    """Checks that a classifier's head sees the mean of the tokens.

    Raises:
      WeightsError: it sees the first token alone.
    """
    if classifier and not described.mean_pooling:
        reason = "its head sees the first token alone; this project's, the mean of all"
        raise WeightsError(path, f"use_mean_pooling=false: {reason}")


def check_sizes(described: Described, found: Mapping[str, int], path: Path) -> None:
    """Checks that config.json is of the tensors beside it: if it is not, its heads are another model's too.

    Args:
      described: what it says.
      found: what the tensors say, by the fields of `SIZES`; a model without a decoder has none of the decoder's.
      path: the file, for errors.

    Raises:
      WeightsError: it is of other tensors.
    """
    for field, size in found.items():
        if (stated := described.sizes.get(field, size)) != size:
            reason = f"{field}={stated!r:.100}, and the tensors have {size}: give the config.json of this model"
            raise WeightsError(path, reason)


def check_preprocessor(path: Path, mean: Iterable[float], std: Iterable[float]) -> None:
    """Checks that the model sees pixels as it does here; there may be no such file.

    Args:
      path: a preprocessor_config.json.
      mean: of the pixels here, in [0, 1].
      std: their standard deviation.

    Raises:
      WeightsError: it is damaged, or the model sees other pixels.
    """
    if not path.is_file():
        return
    options, usual = read_json(path), preprocessor_json(1, mean, std)
    for field in ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"):
        want = usual[field]
        if not _close(value := options.get(field, want), want):
            only = want if isinstance(want, bool) else np.round(want, 6).tolist()
            raise WeightsError(path, f"{field}={value!r:.100}: this project has only {only}")


def _close(value: Any, want: Any) -> bool:
    try:
        return bool(np.allclose(np.asarray(value, np.float64), np.asarray(want, np.float64), rtol=1e-4, atol=0))
    except (TypeError, ValueError):
        return False


def _classes(named: Any, path: Path) -> tuple[str, ...] | None:
    """The names of the classes by label; None where they are transformers' own LABEL_0 and so on."""
    if named is None:
        return None
    try:
        names = tuple(named[str(label)] for label in range(len(named)))
        if not all(isinstance(name, str) for name in names):
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        gap = f": it has {len(named)} names, and none for {error.args[0]}" if isinstance(error, KeyError) else ""
        raise WeightsError(path, f"id2label does not name the classes from 0 on{gap}") from error
    return None if names == _numbered(len(names)) else names


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{label}" for label in range(count))


def config_json(
    *, architecture: str, sizes: Mapping[str, int], eps: float, mean_pooling: bool, classes: Sequence[str] | None
) -> dict[str, Any]:
    """A config.json that transformers opens.

    Args:
      architecture: the class that opens it.
      sizes: the whole numbers of it, under its names.
      eps: of the norms.
      mean_pooling: whether there is no norm after the encoder's blocks.
      classes: the names of a classifier's classes, by label; None for another model. Numbers become LABEL_0 and so on,
        which `describe` takes for no names.
    """
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "videomae",
        **sizes,
        "num_channels": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": eps,
        "qv_bias": True,
        "norm_pix_loss": True,
        "use_mean_pooling": mean_pooling,
        "initializer_range": 0.02,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "torch_dtype": "float32",
    }
    if classes is not None:
        names = tuple(classes)
        names = _numbered(len(names)) if names == tuple(str(label) for label in range(len(names))) else names
        config["id2label"] = {str(label): name for label, name in enumerate(names)}
        config["label2id"] = {name: label for label, name in enumerate(names)}
    return config


def preprocessor_json(size: int, mean: Iterable[float], std: Iterable[float]) -> dict[str, Any]:
    """A preprocessor_config.json: the short side to `size` pixels, the centre, values as the model was trained on."""
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [float(value) for value in mean],
        "image_std": [float(value) for value in std],
    }
