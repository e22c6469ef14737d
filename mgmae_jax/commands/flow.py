"""`mgmae flow`: compute the flow of videos once, and store it beside them for pre-training."""

import argparse
import re
import time
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides
from mgmae_jax.data.flow_places import flow_place
from mgmae_jax.data.host_flow import MIN_SIDE
from mgmae_jax.data.sources import read_source
from mgmae_jax.datasets.find import flow_folders
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.flow.clip_flow import MIN_SIDE as MIN_RAFT_SIDE
from mgmae_jax.flow.raft import CELL
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import parse_dtype
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.train.masks import FlowOptions
from mgmae_jax.train.store_flow import Method, host_method, raft_method, store_flows

SIZE, ITERS = 256, 6
"""Shorter side in pixels of the frames that flow is computed on, and RAFT's updates, unless options say otherwise."""
_SHOWN = 20  # unreadable videos named at the end
EXAMPLE = """example:
  mgmae flow --config pretrain/folder --config.data.path=VIDEOS
  mgmae pretrain --config pretrain/folder --workdir runs/mine \\
      --config.data.path=VIDEOS --config.flow.source=stored

VIDEOS is a folder of videos, or a .csv or .jsonl list. The flow of a.mp4 is stored in a.mp4.flow.safetensors beside it,
or in the folder --config.flow.path, which records and buckets need. It serves any stride and crop. Videos that have
their flow by the same method are skipped, so run the same command again to resume after an interruption; what is
damaged, or of another video, is computed again. Several machines: --shard 0/4 to --shard 3/4."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae flow`."""
    command = command_parser("flow", __doc__, EXAMPLE)
    command.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    command.add_argument(
        "--method", choices=["raft", "dis", "tvl1"], default="raft", help="default: raft, see config.flow"
    )
    command.add_argument(
        "--size", type=int, default=SIZE, metavar="PIXELS", help=f"shorter side of the frames; default: {SIZE}"
    )
    command.add_argument("--iters", type=int, default=ITERS, metavar="N", help=f"RAFT's updates; default: {ITERS}")
    command.add_argument("--shard", default="0/1", metavar="I/N", help="every N-th video from the I-th, counted from 0")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae flow"."""
    args, overrides = parse_with_overrides(parser(), argv)
    config = load_config(args.config, overrides)
    if "flow" not in config or "data" not in config:
        raise FileError(args.config, "has no flow: give one of the configs for pre-training, such as pretrain/folder")
    if not config.data.path:
        want = "a folder of videos, or a .csv or .jsonl list (procedural videos get their true flow when prepared)"
        raise ConfigError("data.path", config.data.path, want)
    method = flow_method(config, args.method, args.size, args.iters)
    root, folder = flow_folders(config)
    videos = read_source(config.data.path)
    if not folder and videos.opener is not None:
        flow_place(videos.item(0), root, folder)  # before the first is computed
    items = [videos.item(index) for index in shard(range(len(videos)), args.shard)]
    enable_compilation_cache(config.compile_cache or None)

    progress, began, made = Progress(len(items), unit="video"), time.monotonic(), 0

    def show(done: int, new: bool) -> None:
        nonlocal made
        made += new
        progress.advance(done, f"{made} made  {done / (time.monotonic() - began):.2f} videos/s")

    failed = store_flows(items, lambda video: flow_place(video, root, folder), method, show)
    progress.close()
    if failed:
        more = [f"  and {len(failed) - _SHOWN} more"] if len(failed) > _SHOWN else []
        lines = [f"  {error}" for error in failed[:_SHOWN]] + more
        raise MgmaeError(
            "\n".join([f"{len(failed)} of {len(items)} videos cannot be read and have no flow:", *lines])
            + "\nFix them and run the same command again, or remove them from config.data.path."
        )


def flow_method(config: ConfigDict, name: str, size: int, iters: int) -> Method:
    """The method of that name.

    Args:
      config: config.flow has the weights and their type, and how TV-L1 is computed. Its size and updates are those of
        flow in the step, where less time is spent on it.
      name: of `--method`.
      size: of `--size`.
      iters: of `--iters`.

    Raises:
      MgmaeError: a field of config.flow or an option has a value that cannot work.
    """
    least = MIN_RAFT_SIDE if name == "raft" else -(-MIN_SIDE // CELL) * CELL
    if size < least or size % CELL:
        raise MgmaeError(f"--size {size}: give a multiple of {CELL}, {least} or more for --method {name}.")
    if iters < 1:
        raise MgmaeError(f"--iters {iters}: give 1 or more.")
    parse_dtype("flow.dtype", config.flow.dtype)
    if name != "raft":
        return host_method("dis" if name == "dis" else "tvl1", size, fast=config.flow.tvl1_fast)
    check_backend()
    options = FlowOptions("raft", iters, size, config.flow.dtype)
    return raft_method(load_flow_params(config.flow.weights), options, size)


def shard(videos: Sequence[Any], part: str) -> Sequence[Any]:
    """Every N-th video, starting with the I-th, for a `part` "I/N".

    Raises:
      MgmaeError: the part is not of that form.
    """
    numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", part)
    if not numbers or int(numbers[1]) >= int(numbers[2]):
        raise MgmaeError(f"--shard {part}: give I/N, a part and the number of parts: 0/4, 1/4, 2/4 or 3/4")
    return videos[int(numbers[1]) :: int(numbers[2])]
