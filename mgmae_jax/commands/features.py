"""`mgmae features`: write a frozen encoder's features of videos to a file."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mgmae_jax.commands.checkpoints import (
    CHECKPOINT_HELP,
    add_weights_options,
    asked_of,
    checkpoint_option,
    model_config,
    open_checkpoint,
)
from mgmae_jax.commands.options import (
    add_start_timeout,
    at_least,
    command_parser,
    parse_with_overrides,
    path_option,
    source_option,
)
from mgmae_jax.data.folders import is_video
from mgmae_jax.data.remote import is_remote, open_video_file
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.evaluate.classes import check_numbers
from mgmae_jax.probe.encoder import load_frozen
from mgmae_jax.probe.features import Flags, check_ending, extract, write_features
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.distributed import initialize, is_primary
from mgmae_jax.runtime.mesh import make_mesh

EXAMPLE = """examples:
  mgmae features VIDEO.mp4 --checkpoint runs/demo --out features.npz
  mgmae features videos.csv --checkpoint runs/demo --out tokens.safetensors --tokens --clips 2 --crops 3

The file holds "features": float32 [videos, views, D], the mean of the tokens of each view; with --tokens, float16
[videos, views, t, h, w, D]. Views are in temporal order, and within a clip from left to right or top to bottom. The
file also holds the videos' paths, and their labels if the list has any. For a fine-tuned model, the features are the
input of its head. Run the same command again to resume after an interruption."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae features`."""
    command = command_parser("features", __doc__, EXAMPLE)
    command.add_argument(
        "videos",
        metavar="VIDEO|LIST",
        type=source_option("VIDEO|LIST"),
        help="a video, a folder of them, or a .csv or .jsonl list",
    )
    command.add_argument("--checkpoint", required=True, type=checkpoint_option("--checkpoint"), help=CHECKPOINT_HELP)
    command.add_argument("--out", required=True, type=path_option("--out"), metavar="FILE", help=".npz or .safetensors")
    command.add_argument("--tokens", action="store_true", help="all tokens instead of their mean")
    command.add_argument("--sampling", choices=["dense", "uniform"], default="dense", help="of clips; default: dense")
    command.add_argument("--clips", type=at_least(1), default=1, help="clips per video (default 1, in the middle)")
    command.add_argument("--crops", type=at_least(1), default=1, help="crops per clip (default 1, in the centre)")
    command.add_argument("--workers", type=at_least(0), default=2, help="processes that decode (default 2)")
    command.add_argument(
        "--clips-per-device", type=at_least(1), default=16, help="views processed at once (default 16)"
    )
    command.add_argument("--allow-missing", action="store_true", help="leave out unreadable videos, and list them")
    add_weights_options(command)
    add_start_timeout(command)
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae features"."""
    args, overrides = parse_with_overrides(parser(), argv)
    initialize(args.start_timeout)  # first: an error that one process meets ends the others too
    check_ending(args.out)
    checkpoint = open_checkpoint(args.checkpoint, asked_of(args))
    config = model_config(checkpoint, overrides)
    videos = listed(args.videos)
    enable_compilation_cache(config.compile_cache or None)
    mesh = make_mesh(config.mesh.fsdp)
    encoder = load_frozen(config, checkpoint, mesh)
    partial = args.out.with_name(args.out.name + ".partial")
    found = extract(
        encoder,
        videos,
        ViewSpec(encoder.clip, args.sampling, args.clips, args.crops),
        "tokens" if args.tokens else "pooled",
        mesh,
        cache=partial,
        workers=args.workers,
        clips_per_device=args.clips_per_device,
        allow_missing=args.allow_missing,
        flags=Flags("--out", "--allow-missing"),
    )
    if not is_primary():
        return
    grid = encoder.model.grid
    shape = write_features(args.out, found, (grid.tubelets, grid.rows, grid.columns), encoder.about)
    shutil.rmtree(partial)
    for path, reason in found.missing:
        print(f"missing: {path}: {reason}", file=sys.stderr)
    print(f"wrote {args.out}: features {list(shape)}", file=sys.stderr)


def listed(path: str) -> VideoList:
    """The videos of a list or a folder, or the single video at the path.

    Raises:
      MgmaeError: there is no such video, folder or list, or its labels are beyond reason.
    """
    if is_video(path) and not Path(path).is_dir():
        return VideoList((path,), opener=open_video_file if is_remote(path) else None)
    videos = read_source(path, "VIDEO|LIST")
    check_numbers(videos, path, least=-1)  # -1 is a usual mark of a missing label
    return videos
