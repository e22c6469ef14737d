"""The pre-trained parts that fine-tuning starts from: the encoder, and the decoder where there is one."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError, FileError
from mgmae_jax.evaluate.run import which_weights
from mgmae_jax.models.variants import variant_name, variant_of
from mgmae_jax.runtime.checkpoint import checkpoint_name, file_above, restore_params
from mgmae_jax.runtime.run_info import CONFIG
from mgmae_jax.runtime.weights import Checkpoint, Weights
from mgmae_jax.train.state import TrainState


def load_init(
    config: ConfigDict, open_init: Callable[[str], Checkpoint], source: dict[str, Any], abstract: TrainState
) -> Any:
    """The pre-trained parts in the checkpoint that `config.init` names, for `Finetuning.init`.

    Args:
      config: the resolved config.
      open_init: from `config.init` to what `restore_params` reads.
      source: filled with where the weights of another program come from.
      abstract: the state to fill.

    Raises:
      MgmaeError: see `check_trained_clip`, `check_heads` and `load_pretrained`.
    """
    checkpoint = open_init(config.init)
    if isinstance(checkpoint, Weights):
        source.update(checkpoint.source)
    check_trained_clip(checkpoint, config)
    check_heads(checkpoint, config, decoder="decoder" in abstract.params)
    return load_pretrained(checkpoint, abstract.params)


def load_pretrained(checkpoint: Checkpoint, abstract_params: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the encoder, and the decoder where there is one, of a pre-training checkpoint or a fine-tuned classifier's.

    Of a fine-tuning run that keeps an average of its weights it is the average, as in its evaluation.

    Args:
      checkpoint: as for `runtime.checkpoint.restore_params`.
      abstract_params: the classifier's parameters, of `jax.ShapeDtypeStruct` with a `sharding`. Without a bridge the
        pre-training's norm after the encoder's blocks is left out.

    Returns:
      The parameters as {"encoder": ..., "decoder": ...}, with the dtypes and shardings of the abstract ones.

    Raises:
      FileError: there is no checkpoint, it is damaged, or it belongs to a model of another size; the message names the
        tensors that differ.
    """
    parts = {name: abstract_params[name] for name in ("encoder", "decoder") if name in abstract_params}
    saved = _saved_config(checkpoint)
    keeps_average = saved is not None and "ema_decay" in saved.get("train", ())
    restored: dict[str, Any] = restore_params(checkpoint, parts, which_weights(saved) if keeps_average else "params")
    return restored


def check_trained_clip(checkpoint: Checkpoint, config: ConfigDict) -> None:
    """Checks that the config states the encoder's position table and the clips of the pre-training that it depends on.

    Args:
      checkpoint: as for `restore_params`. If it does not say what it was trained on, nothing is checked.
      config: the fine-tuning config.

    Raises:
      ConfigError: clips differ, but `model.trained_frames` or `model.trained_size` does not say so; or
        `model.positions` differs.
      FileError: there is no checkpoint, or the config with it is damaged.
    """
    if (saved := _trained_on(checkpoint)) is None:
        return
    named = checkpoint_name(checkpoint) if isinstance(checkpoint, Weights) else checkpoint
    clips, positions = saved
    if config.model.get("positions", "flat") != positions:
        raise ConfigError("model.positions", config.model.positions, f"{positions}, as in {named}")
    for name, trained in clips.items():
        said = config.model[f"trained_{name}"]
        if (said or config.clip[name]) != trained:
            want = f"{trained}, clip.{name} of {named}, so that its positions are interpolated"
            raise ConfigError(f"model.trained_{name}", said, want)


def check_heads(checkpoint: Checkpoint, config: ConfigDict, *, decoder: bool) -> None:
    """Checks that the model has the attention heads of the checkpoint, of which no tensor's shape depends.

    Args:
      checkpoint: as for `restore_params`. If it does not say how many heads it has, nothing is checked.
      config: the fine-tuning config.
      decoder: whether the decoder's heads count too.

    Raises:
      ConfigError: the sizes of `model.name` are the checkpoint's, but not its heads.
    """
    saved = _saved_config(checkpoint)
    if saved is None or "name" not in saved.model:
        return
    asked, trained = variant_of(config.model), variant_of(saved.model)
    wanted = dataclasses.replace(asked, heads=trained.heads)
    if decoder and trained.decoder_width == asked.decoder_width:
        wanted = dataclasses.replace(wanted, decoder_heads=trained.decoder_heads)
    same_sizes = (trained.width, trained.depth, trained.mlp) == (asked.width, asked.depth, asked.mlp)
    if same_sizes and wanted != asked:
        raise ConfigError(
            "model.name", config.model.name, f"{variant_name(wanted)}, with the heads of {checkpoint_name(checkpoint)}"
        )


def _saved_config(checkpoint: Checkpoint) -> ConfigDict | None:
    """The config that a checkpoint was made with; None if it is not known."""
    if isinstance(checkpoint, Weights):
        return checkpoint.config
    path = file_above(checkpoint, CONFIG)
    if path is None:
        return None
    try:
        return ConfigDict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FileError(path, f"cannot be read as the config of a run ({error})") from error


def _trained_on(checkpoint: Checkpoint) -> tuple[dict[str, int], str] | None:
    """The frames and size of the clips that a checkpoint was trained on, and its position table; None if unknown."""
    if isinstance(checkpoint, Weights) and not checkpoint.clip_known:
        return None
    saved = _saved_config(checkpoint)
    if saved is None:
        return None
    try:
        return _clips(saved)
    except (AttributeError, TypeError) as error:
        named = checkpoint_name(checkpoint) if isinstance(checkpoint, Weights) else file_above(checkpoint, CONFIG)
        raise FileError(named or CONFIG, f"cannot be read as the config of a run ({error})") from error


def _clips(saved: ConfigDict) -> tuple[dict[str, int], str]:
    clips = {"frames": saved.clip.frames, "size": saved.clip.size}
    if "trained_frames" in saved.model:  # a fine-tuned classifier keeps its pre-training's positions
        clips = {name: saved.model[f"trained_{name}"] or value for name, value in clips.items()}
    return clips, saved.model.get("positions", "flat")
