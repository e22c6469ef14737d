"""`mgmae flow`: compute the flow of videos once, and store it beside them for pre-training."""

import argparse
import re
import time
from collections.abc import Sequence

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser
from mgmae_jax.data.remote import is_remote
from mgmae_jax.data.sources import read_source
from mgmae_jax.data.stored_flow import flow_path
from mgmae_jax.datasets.find import flow_folders
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import parse_dtype
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.train.masks import FlowOptions
from mgmae_jax.train.store_flow import Method, raft_method, store_flows, tvl1_method

SIZE = 224
"""Side in pixels of the frames that flow is computed on, if config.flow.size is unset."""
_LEAST_SIZE = 16
_SHOWN = 20  # unreadable videos named at the end
EXAMPLE = """example:
  mgmae flow --config pretrain/folder --config.data.path=VIDEOS
  mgmae pretrain --config pretrain/folder --workdir runs/mine \\
      --config.data.path=VIDEOS --config.flow.source=stored

VIDEOS is a folder of videos, or a .csv or .jsonl list. The flow of a.mp4 is stored in a.mp4.flow.npz beside it, or in
the folder --config.flow.path. Frames are resized to squares of 224 pixels, or --config.flow.size, for the computation;
the flow is stored in the pixels of the video, for any stride and crop. Videos that have their flow are skipped, so run
the same command again to resume after an interruption. Several machines: --shard 0/4 to --shard 3/4."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae flow`."""
    command = command_parser("flow", __doc__, EXAMPLE)
    command.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    command.add_argument("--method", choices=["raft", "tvl1"], default="raft", help="default: raft, see config.flow")
    command.add_argument("--shard", default="0/1", metavar="I/N", help="every N-th video from the I-th, counted from 0")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae flow"."""
    args, overrides = parser().parse_known_args(argv)
    config = load_config(args.config, overrides)
    if "flow" not in config or "data" not in config:
        raise FileError(args.config, "has no flow: give one of the configs for pre-training, such as pretrain/folder")
    if not config.data.path:
        want = "a folder of videos, or a .csv or .jsonl list (procedural videos get their true flow when prepared)"
        raise ConfigError("data.path", config.data.path, want)
    size = SIZE if config.flow.size is None else config.flow.size
    if size < _LEAST_SIZE:
        raise ConfigError("flow.size", size, f"{_LEAST_SIZE} or more")
    parse_dtype("flow.dtype", config.flow.dtype)
    options = FlowOptions(args.method, config.flow.iters, size, config.flow.dtype, config.flow.tvl1_fast)
    videos = shard(video_files(config.data.path, "data.path"), args.shard)
    enable_compilation_cache(config.compile_cache or None)
    method: Method = tvl1_method(options.tvl1_fast)
    if args.method == "raft":
        check_backend()
        method = raft_method(load_flow_params(config.flow.weights), options, size)

    progress, began, made = Progress(len(videos), unit="video"), time.monotonic(), 0

    def show(done: int, new: bool) -> None:
        nonlocal made
        made += new
        progress.advance(done, f"{made} made  {done / (time.monotonic() - began):.2f} videos/s")

    root, folder = flow_folders(config)
    failed = store_flows(videos, lambda video: flow_path(video, root, folder), method, size, show)
    progress.close()
    if failed:
        more = [f"  and {len(failed) - _SHOWN} more"] if len(failed) > _SHOWN else []
        lines = [f"  {error}" for error in failed[:_SHOWN]] + more
        raise MgmaeError(
            "\n".join([f"{len(failed)} of {len(videos)} videos cannot be read and have no flow:", *lines])
            + "\nFix them and run the same command again, or remove them from config.data.path."
        )


def video_files(path: str, field: str) -> tuple[str, ...]:
    """The videos of a folder or a list, for a command that reads only files.

    Args:
      path: the folder or list.
      field: what gave it, see `read_source`.

    Raises:
      MgmaeError: see `read_source`; or the videos are in a bucket.
    """
    videos = read_source(path, field)
    if videos.opener is not None:
        first = next(filter(is_remote, videos.paths), videos.paths[0])
        raise FileError(path, f"lists {first}, which is not a file here: mount the bucket (gcsfuse) and list its files")
    return videos.paths


def shard(videos: Sequence[str], part: str) -> Sequence[str]:
    """Every N-th video, starting with the I-th, for a `part` "I/N".

    Raises:
      MgmaeError: the part is not of that form.
    """
    numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", part)
    if not numbers or int(numbers[1]) >= int(numbers[2]):
        raise MgmaeError(f"--shard {part}: give I/N, a part and the number of parts: 0/4, 1/4, 2/4 or 3/4")
    return videos[int(numbers[1]) :: int(numbers[2])]
