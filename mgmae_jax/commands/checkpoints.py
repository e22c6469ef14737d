"""What `--checkpoint` and `--init` name: a run of this project, or a model of another program, local or on the Hub."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flax import traverse_util
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_run_config, run_folder
from mgmae_jax.commands.config_names import run_config
from mgmae_jax.errors import ConfigError, FileError, MgmaeError, WeightsError
from mgmae_jax.interop.hub import download, is_on_hub
from mgmae_jax.interop.hugging_face import PREPROCESSOR_FILE, check_preprocessor
from mgmae_jax.interop.model_file import Asked, Model, checksum, read_model, told
from mgmae_jax.interop.model_folder import CONFIG_FILE, is_model_folder
from mgmae_jax.interop.safetensors_file import read_own
from mgmae_jax.models.layers import NORM_EPS
from mgmae_jax.models.variants import variant_name
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.config_history import ADDED
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.paths import local_text
from mgmae_jax.runtime.weights import Checkpoint, Weights
from mgmae_jax.train.pretrained import check_trained_clip

CHECKPOINT_HELP = (
    "a run's workdir or one of its checkpoints; or a model of MGMAE, VideoMAE or VideoMAE V2 (.pth), a Hugging Face "
    "folder, or hf://OWNER/NAME"
)
RUNS = Path("runs")
"""Where results go that belong to no workdir."""


def checkpoint_option(name: str) -> Callable[[str], str]:
    """The `type` of an argument that names a checkpoint: a local path with `~` expanded, or hf://OWNER/NAME.

    Args:
      name: the flag.
    """
    return lambda value: value if is_on_hub(value) else local_text(value, name)


def add_weights_options(command: argparse.ArgumentParser) -> None:
    """Adds what has to be said of some models of other programs: --take, --heads, --decoder-heads."""
    group = command.add_argument_group("for models of other programs")
    group.add_argument(
        "--take", metavar="KEY", help="which state dict of a .pth file: model (default), module, state_dict, model_ema"
    )
    group.add_argument(
        "--heads", type=int, metavar="N", help="attention heads, where the sizes are not those of a published model"
    )
    group.add_argument("--decoder-heads", type=int, metavar="N", help="the same of the decoder")


def asked_of(args: argparse.Namespace) -> Asked:
    """What the options of `add_weights_options` say."""
    return Asked(args.take, args.heads, args.decoder_heads)


def check_unasked(asked: Asked, flag: str) -> None:
    """Checks that nothing is said of another program's file where there is none.

    Args:
      asked: see `asked_of`.
      flag: what would name the file.

    Raises:
      MgmaeError: something is said of it.
    """
    if asked != Asked():
        raise MgmaeError(
            f"--take, --heads and --decoder-heads are for the model of {flag}: give it, or leave them out."
        )


def print_summary(place: str, model: Model) -> None:
    """Says in one line on standard error what was read of another program's file."""
    if is_primary():
        print(summary(place, model), file=sys.stderr, flush=True)


def open_checkpoint(place: str, asked: Asked, say: Callable[[str, Model], None] = print_summary) -> Checkpoint:
    """Finds what `--checkpoint` or `--init` names.

    Args:
      place: a local path, or a place on the Hub.
      asked: what the user says of another program's file.
      say: reports what was read of one.

    Returns:
      The path, if it is of a run of this project or does not exist; otherwise the weights, which are read later.

    Raises:
      MgmaeError: the model cannot be read or downloaded, or something is said of a run of this project.
    """
    path, revision = download(place) if is_on_hub(place) else (Path(place), None)
    if asked != Asked() and not path.exists():
        raise FileError(path, "no such file or folder")
    if not (path.is_file() or (path.is_dir() and is_model_folder(path))):
        return _without(asked, place, path)
    if (own := read_own(path)) is not None:
        _check_own(own)
        return _without(asked, place, own)
    model = read_model(path, asked)
    if model.clip_from == CONFIG_FILE:
        folder = path if path.is_dir() else path.parent
        check_preprocessor(folder / PREPROCESSOR_FILE, IMAGENET_MEAN, IMAGENET_STD)
    source = {"from": place, "sha256": checksum(model.file), **({"revision": revision} if revision else {})}
    if model.file.taken is not None:
        source["state_dict"] = model.file.taken
    say(place, model)
    return weights_of(place, model, source)


def _without(asked: Asked, place: str, own: Checkpoint) -> Checkpoint:
    if asked != Asked():
        raise MgmaeError(f"{place}: --take, --heads and --decoder-heads are for models of other programs: leave them.")
    return own


def _check_own(own: Weights) -> None:
    """Checks that the config in a file of this project has what every config of its kind has, as it has it.

    Raises:
      WeightsError: a field is missing, or has a value of another type.
    """
    kind = kind_of(own.config)
    if kind not in ("pretrain", "finetune"):
        raise WeightsError(
            own.name, f"its metadata has config.kind={kind!r:.100}: give a file that `mgmae convert` wrote"
        )
    usual, saved = (
        traverse_util.flatten_dict(config.to_dict(), sep=".") for config in (run_config(f"{kind}/common"), own.config)
    )
    for field, value in usual.items():
        if field not in saved and field not in ADDED[kind]:
            raise WeightsError(own.name, f"its metadata has no config.{field}: the file is damaged")
        if None not in (found := saved.get(field), value) and not _alike(found, value):
            raise WeightsError(own.name, f"its metadata has config.{field}={found!r:.100}: the file is damaged")


def _alike(found: object, usual: object) -> bool:
    """Whether two values of a config are of one type, as JSON keeps types."""
    groups = ((bool,), (int, float), (list, tuple), (str,))
    return any(type(found) in group and type(usual) in group for group in groups)


def summary(place: str, model: Model) -> str:
    """One line on a model of another program: its sizes, what was taken, and what it does not say."""
    facts = told(model)
    kind = "classifier" if model.kind == "finetune" else "masked autoencoder" if model.decoder_depth else "encoder"
    taken = f"; took {facts['taken']!r}" if facts["taken"] else ""
    taken += f" (--take gives {' or '.join(facts['others'])})" if facts["taken"] and facts["others"] else ""
    clip = f"clips of {model.frames}x{model.size}x{model.size} ({model.clip_from or 'assumed'})"
    counts = f"{facts['used'] + facts['reshaped']} tensors used, {facts['unused']} unused"
    return f"{place}: {kind} {variant_name(model.variant)}, {clip}; {counts}{taken}"


def weights_of(name: str, model: Model, source: Mapping[str, object]) -> Weights:
    """A model of another program in the place of a checkpoint, with the config that a run of it would have."""
    config = run_config(f"{model.kind}/common")
    config.clip.frames, config.clip.size = model.frames, model.size
    config.model.update(name=variant_name(model.variant), patch=model.patch, tubelet=model.tubelet)
    with config.unlocked():
        for field, eps in (("norm_eps", model.variant.eps), ("last_norm_eps", model.variant.last_eps)):
            if eps != NORM_EPS:
                config.model[field] = eps
    if model.kind == "finetune":
        config.model.classes = len(model.classes or "1")  # a config has one at least, also without a head
    elif model.decoder_depth is not None:
        config.model.decoder_depth = model.decoder_depth
    # The options in a file of the official programs may be those of another run.
    return Weights(name, config, model.classes, model.leaves, source, model.clip_from == CONFIG_FILE)


def model_config(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of a checkpoint's run, or of another program's model, with the changes of the command line.

    Raises:
      MgmaeError: see `load_run_config`; or the clips are not those that the model was trained on, and nothing says how
        its positions are to be interpolated.
    """
    config = load_run_config(checkpoint, overrides)
    if overrides:
        before = load_run_config(checkpoint)
        if not isinstance(checkpoint, Weights) or checkpoint.clip_known:
            named = checkpoint.name if isinstance(checkpoint, Weights) else checkpoint
            for field in ("frames", "size"):
                _check_side(field, before, config, str(named))
        else:
            _say_clips(checkpoint.name, before, config)
    return config


def _say_clips(name: str, before: ConfigDict, config: ConfigDict) -> None:
    """Says that the user's word on the clips that a model was trained on is taken, where another was stated."""
    stated, taken = ((one.clip.frames, one.clip.size) for one in (before, config))
    trained = [config.model.get(f"trained_{field}") for field in ("frames", "size")]
    if stated != taken and not any(trained) and is_primary():
        said, meant = (f"{frames}x{size}x{size}" for frames, size in (stated, taken))
        told = f"taken to be trained on clips of {meant}, not {said}, so its positions are not interpolated"
        print(f"{name}: {told}", file=sys.stderr, flush=True)


def _check_side(field: str, before: ConfigDict, config: ConfigDict, named: str) -> None:
    trained, asked = before.clip[field], config.clip[field]
    if asked == trained:
        return
    if kind_of(config) == "pretrain":
        raise ConfigError(f"clip.{field}", asked, f"{trained}, as in {named}: the positions are those of such clips")
    if not config.model.get(f"trained_{field}"):
        want = f"{trained}, clip.{field} of {named}, so that its positions are interpolated to clip.{field}={asked}"
        raise ConfigError(f"model.trained_{field}", None, want)


def with_eps(config: ConfigDict, checkpoint: Checkpoint) -> ConfigDict:
    """A config that the user named, with the eps of the norms that another program's model has.

    Raises:
      ConfigError: the model says what clips it was trained on, and the config does not say that they were those.
    """
    if isinstance(checkpoint, Weights):
        if checkpoint.clip_known:
            check_trained_clip(checkpoint, config)
        with config.unlocked():
            for field in ("norm_eps", "last_norm_eps"):
                if field in checkpoint.config.model and field not in config.model:
                    config.model[field] = checkpoint.config.model[field]
    return config


def results_folder(checkpoint: Checkpoint) -> Path:
    """Where results of a checkpoint go: its run's workdir, or a folder of runs/ named as the file is."""
    if not isinstance(checkpoint, Weights):
        return run_folder(checkpoint)
    name = checkpoint.name.removeprefix("hf://").partition("@")[0].rstrip("/")
    parts = Path(name).parts
    return RUNS / ("_".join(parts[-2:]) if is_on_hub(checkpoint.name) else Path(Path(name).absolute().name).stem)
