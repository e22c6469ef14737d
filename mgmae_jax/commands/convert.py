"""`mgmae convert`: models of other programs to this project's, and back."""

import argparse
import dataclasses
import functools
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from mgmae_jax.commands.checkpoints import (
    CHECKPOINT_HELP,
    add_weights_options,
    asked_of,
    checkpoint_option,
    model_config,
    open_checkpoint,
    summary,
)
from mgmae_jax.commands.config_file import check_flags, load_run_config, run_folder
from mgmae_jax.commands.model_card import model_card
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.evaluate.classes import read_classes, write_classes
from mgmae_jax.evaluate.run import which_weights
from mgmae_jax.interop.export import hidden_tokens, write_hugging_face, write_pth
from mgmae_jax.interop.flow_weights import load_flow_weights, save_flow_weights
from mgmae_jax.interop.hub import is_on_hub
from mgmae_jax.interop.match import Line
from mgmae_jax.interop.model_file import Model
from mgmae_jax.interop.safetensors_file import write_own
from mgmae_jax.interop.tensor_files import open_tensors
from mgmae_jax.interop.torch_raft import is_raft, tree_path
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.checkpoint import (
    FOLDER,
    Checkpoints,
    checkpoint_name,
    find_checkpoint,
    restore_params,
    saved_params,
)
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.run_info import write_run_info
from mgmae_jax.runtime.weights import Checkpoint, Leaf, Weights

FORMATS = {
    "mgmae": "a workdir with a checkpoint of this project",
    "safetensors": "one file with this project's names",
    "pth": "as the official programs write it (needs PyTorch)",
    "huggingface": "a folder that transformers opens",
}
# Fields of config.model that cannot be changed without other parameters.
_OF_THE_WEIGHTS = {"name", "patch", "tubelet", "positions", "classes", "norm_eps", "last_norm_eps", "decoder_depth"}
_OF_THE_WEIGHTS |= {"bridge_depth", "bridge_width", "bridge_heads"}
EXAMPLE = """examples:
  mgmae convert videomae_pretrain.pth runs/videomae
  mgmae convert runs/finetuned hub/mine --to huggingface
  mgmae convert hf://MCG-NJU/videomae-base-finetuned-kinetics runs/k400
  mgmae convert runs/finetuned finetuned.pth
  mgmae convert raft-small.pth raft_small.safetensors

SRC is a run of this project, a model of MGMAE, VideoMAE or VideoMAE V2 (.pth), a Hugging Face folder, a place on the
Hub, or RAFT-small's weights. The end of DST gives the format: .safetensors, .pth; else --to, by default a workdir, for
the --checkpoint and --init of other commands, which also take most of SRC as they are. What became of each tensor is
printed. --config.FIELD=VALUE changes the config that is written, such as --config.clip.frames."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae convert`."""
    command = command_parser("convert", __doc__, EXAMPLE)
    command.add_argument("source", metavar="SRC", type=checkpoint_option("SRC"), help=CHECKPOINT_HELP)
    command.add_argument("destination", metavar="DST", type=path_option("DST"), help="what to write; must not exist")
    told = "; ".join(f"{name}: {text}" for name, text in FORMATS.items())
    command.add_argument("--to", choices=FORMATS, help=f"the format. {told}")
    add_weights_options(command)
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae convert"."""
    args, overrides = parse_with_overrides(parser(), argv)
    check_flags(overrides)
    source, destination = args.source, args.destination
    if destination.exists():
        raise FileError(destination, "is there already: remove it, or give another DST.")
    endings = {".safetensors": "safetensors", ".pth": "pth", ".pt": "pth"}
    wanted = args.to or endings.get(destination.suffix.lower(), "mgmae")
    if not is_on_hub(source) and Path(source).is_file() and is_raft(open_tensors(Path(source), args.take).tensors):
        if overrides or wanted != "safetensors":
            raise MgmaeError(f"{source} is RAFT's: it becomes a .safetensors file, and has no config.")
        return convert_flow(source, destination, args.take)
    read: list[tuple[str, Model]] = []
    found = open_checkpoint(source, asked_of(args), lambda place, model: read.append((place, model)))
    weights = found if isinstance(found, Weights) else weights_of_run(Path(found), overrides)
    weights = dataclasses.replace(weights, config=_checked(model_config(found, overrides), found))
    lines: list[Line] = []
    if wanted == "mgmae":
        write_run(destination, weights, ["mgmae", "convert", *argv])
    elif wanted == "safetensors":
        write_own(destination, weights)
    elif wanted == "pth":
        lines = write_pth(destination, weights)
    else:
        folder = run_folder(found) if not isinstance(found, Weights) else None
        with new_folder(destination) as partial:
            card = model_card(weights, destination.name, folder)
            lines = write_hugging_face(partial, weights, card, (IMAGENET_MEAN, IMAGENET_STD))
    for place, model in read:  # once all is written, since nobody may read what is printed
        print_report(place, model)
    print_lines(lines)
    print(f"wrote {destination}: {FORMATS[wanted]}")
    if lines and (remark := hidden_tokens(weights)):
        print(remark)


def _checked(config: ConfigDict, found: Checkpoint) -> ConfigDict:
    """The config to write, which has to be one of the weights that were found.

    Raises:
      ConfigError: a field says something else of the parameters than they are, or the tokens do not fill the clips.
    """
    before = load_run_config(found)
    for field in sorted(_OF_THE_WEIGHTS & set(before.model)):
        if (asked := config.model[field]) != (has := before.model[field]):
            raise ConfigError(f"model.{field}", asked, f"{has}, as {checkpoint_name(found)} has")
    predicted, stated = (one.get("loss", {}).get("target") for one in (before, config))
    if stated != predicted:  # it says whether the decoder has a place in other programs
        raise ConfigError("loss.target", stated, f"{predicted}, as {checkpoint_name(found)} has")
    TokenGrid(config.clip.frames, config.clip.size, config.clip.size, config.model.tubelet, config.model.patch)
    return config


def print_report(place: str, model: Model) -> None:
    """Prints what became of every tensor of another program's file, and a summary."""
    print_lines(model.lines)
    print(summary(place, model))


def print_lines(lines: Sequence[Line]) -> None:
    """Prints one line for each tensor."""
    width = max((len(line.name) for line in lines), default=0)
    for line in lines:
        print(f"{line.status:8}  {line.name:{width}}  {line.note}")


def convert_flow(source: str, destination: Path, take: str | None = None) -> None:
    """Writes RAFT-small's weights, of either layout, under this project's names; prints each tensor.

    Raises:
      MgmaeError: they are not RAFT-small's.
    """
    tensors = open_tensors(Path(source), take).tensors
    params = load_flow_weights(source, take)
    save_flow_weights(destination, params)
    lines = []
    for name, tensor in tensors.items():
        note = f"{'.'.join(tree_path(name))} from {list(tensor.shape)}"
        lines.append(Line("used" if tensor.ndim < 2 else "reshaped", name, note))
    print_lines(lines)
    print(f"wrote {destination}: RAFT-small, {FORMATS['safetensors']}")


def weights_of_run(checkpoint: Path, overrides: Sequence[str] = ()) -> Weights:
    """A checkpoint of this project as weights: those that are evaluated, see `eval.weights`.

    Raises:
      MgmaeError: there is no such checkpoint, or it is of a kind that has no place elsewhere.
    """
    config = load_run_config(checkpoint, overrides)
    kind = kind_of(config)
    if kind not in ("pretrain", "finetune"):
        raise MgmaeError(f"{checkpoint}: is of a run of kind {kind!r}: give one of kind 'pretrain' or 'finetune'.")
    tree = "params" if kind == "pretrain" else which_weights(config)
    shapes = saved_params(checkpoint, tree)

    loaded: dict[str, jax.Array] = {}

    def read(name: str) -> np.ndarray:
        if name not in loaded:  # all at once, since opening a checkpoint takes longer than reading it
            loaded.update(traverse_util.flatten_dict(restore_params(checkpoint, _abstract(shapes), tree), sep="."))
        return np.asarray(loaded.pop(name))

    leaves = {name: Leaf(shape, functools.partial(read, name)) for name, shape in shapes.items()}
    classes = read_classes(checkpoint) if kind == "finetune" else None
    source = {"from": str(find_checkpoint(checkpoint)), "weights": tree}
    return Weights(str(checkpoint), config, classes, leaves, source, True)


def write_run(workdir: Path, weights: Weights, argv: Sequence[str]) -> None:
    """Writes a workdir with one checkpoint, whole or not at all: config.json, run.json, classes.json, checkpoints/0.

    Raises:
      MgmaeError: it cannot be written, or a value is not finite.
    """
    abstract = _abstract({name: leaf.shape for name, leaf in weights.leaves.items()})
    with new_folder(workdir) as partial:
        write_run_info(partial, weights.config, argv, weights=weights.source)
        if weights.classes is not None:
            write_classes(partial, weights.classes)
        with Checkpoints(partial / FOLDER, every=1, keep=1) as checkpoints:
            checkpoints.save(0, {"params": weights.restore(abstract)}, {}, force=True)


def _abstract(shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Parameters of these shapes, on the first device."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    flat = {name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=device) for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep=".")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a folder to fill, which becomes `path` when the block ends without an error.

    Raises:
      FileError: it cannot be made.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        os.rename(partial, path)
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror or error}): give a writable place") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
