"""A file of features, for other programs."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mgmae_jax.errors import FileError
from mgmae_jax.train.features import VideoFeatures

ENDINGS = (".npz", ".safetensors")


def check_ending(path: Path) -> None:
    """Sees that features can be written under that name.

    Raises:
      FileError: it ends otherwise than in .npz or .safetensors.
    """
    if path.suffix.lower() not in ENDINGS:
        raise FileError(path, "features are written as .npz or .safetensors; give --out one of these endings")


def write_features(
    path: Path, found: VideoFeatures, grid: tuple[int, int, int], about: Mapping[str, Any]
) -> tuple[int, ...]:
    """Writes features, whole or not at all.

    The file holds "features": pooled float32 [n, V, D], or tokens float16 [n, V, t, h, w, D]; for labelled videos
    "labels" int64 [n]. In an .npz file there are also "paths" and perhaps "class_names", arrays of text, and "about", a
    text of JSON; a .safetensors file has the three in its metadata, as JSON.

    Args:
      path: a .npz or .safetensors file.
      found: the features.
      grid: tokens of a clip in time, down and across.
      about: of the encoder.

    Returns:
      The shape of the features.

    Raises:
      FileError: the ending is another, or the file cannot be written.
    """
    check_ending(path)
    features = found.features
    if features.ndim > 3:
        features = features.reshape(*features.shape[:2], *grid, features.shape[-1])
    arrays = {"features": features}
    if found.videos.labels is not None:
        arrays["labels"] = np.asarray(found.videos.labels, np.int64)
    texts: dict[str, Any] = {"paths": list(found.videos.paths), "about": dict(about)}
    if found.videos.class_names is not None:
        texts["class_names"] = list(found.videos.class_names)
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".npz":
            about_text = np.array(json.dumps(texts.pop("about")))
            lists = {name: np.array(values) for name, values in texts.items()}
            with temporary.open("wb") as file:
                np.savez(file, **arrays, **lists, about=about_text)
        else:
            whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            save_file(whole, temporary, {name: json.dumps(value) for name, value in texts.items()})
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror or error})") from error
    return features.shape
