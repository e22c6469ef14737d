"""The encoder of a pre-trained model, for a classifier."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError, FileError
from mgmae_jax.runtime.checkpoint import find_checkpoint, restore_params
from mgmae_jax.runtime.run_info import CONFIG


def load_encoder(checkpoint: str | Path, abstract_encoder: Any) -> Any:
    """Reads the encoder's parameters of a pre-training checkpoint, or of a fine-tuned classifier's.

    Args:
      checkpoint: as for `runtime.checkpoint.find_checkpoint`.
      abstract_encoder: the classifier's subtree `encoder`, of `jax.ShapeDtypeStruct` with a `sharding`. The norm after
        the blocks of the pre-training is left out.

    Returns:
      The parameters, with the dtypes and shardings of `abstract_encoder`.

    Raises:
      FileError: there is no checkpoint, it is damaged, or it is of a model of another size; the message names the
        tensors that differ.
    """
    return restore_params(checkpoint, {"encoder": abstract_encoder})["encoder"]


def check_trained_clip(checkpoint: str | Path, config: ConfigDict) -> None:
    """Sees that the config knows the encoder's position table and the clips of the pre-training, which it depends on.

    Args:
      checkpoint: as for `find_checkpoint`. Where there is no config of its run, nothing is checked.
      config: of the fine-tuning.

    Raises:
      ConfigError: clips differ, and `model.trained_frames` or `model.trained_size` does not say so; or
        `model.positions` is another.
      FileError: there is no checkpoint, or the config with it is damaged.
    """
    folders = find_checkpoint(checkpoint).parents
    path = next((folder / CONFIG for folder in folders if (folder / CONFIG).is_file()), None)
    if path is None:
        return
    try:
        saved = ConfigDict(json.loads(path.read_text(encoding="utf-8")))
        clips = {"frames": saved.clip.frames, "size": saved.clip.size}
        if "trained_frames" in saved.model:  # a fine-tuned classifier keeps the positions of its pre-training
            clips = {name: saved.model[f"trained_{name}"] or value for name, value in clips.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FileError(path, f"cannot be read as the config of a run ({error})") from error
    positions = saved.model.get("positions", "flat")
    if config.model.get("positions", "flat") != positions:
        raise ConfigError("model.positions", config.model.positions, f"{positions}, as in {checkpoint}")
    for name, trained in clips.items():
        said = config.model[f"trained_{name}"]
        if (said or config.clip[name]) != trained:
            want = f"{trained}, clip.{name} of {checkpoint}, so that its positions are interpolated"
            raise ConfigError(f"model.trained_{name}", said, want)
