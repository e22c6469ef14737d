"""`mgmae explore`: a video under several masking strategies at once, as a page in one file."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option, text_option
from mgmae_jax.commands.pictures import FLOW_SOURCES
from mgmae_jax.commands.strategy_masks import both_ways, mask_steps, raft_both_ways, read_both_ways, visible_tokens
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import host_clip_flow
from mgmae_jax.datasets.find import flow_folders
from mgmae_jax.datasets.motion_shapes import CLASSES
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.flow.packed import packed
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.masking.strategies import STRATEGIES
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.config_checks import check_kind
from mgmae_jax.runtime.files import write_text
from mgmae_jax.runtime.rng import named_key, stream
from mgmae_jax.show.clip import motion_shapes_clip, motion_shapes_flow, video_clip, video_flow
from mgmae_jax.show.explore import MOST_RATIOS, MOST_STRATEGIES, ExploredClip, explore_page
from mgmae_jax.show.page import check_page_path
from mgmae_jax.train.masks import MaskStep

EXAMPLE = """examples:
  mgmae explore VIDEO.mp4
  mgmae explore VIDEO.mp4 --strategies motion tube random frame --ratios 0.5 0.9 --out masks.html
  mgmae explore VIDEO.mp4 --config.flow.source=dis --config.clip.stride=2
  mgmae explore --motion-shapes pushed_right --seed 5 --config.clip.size=112

The page is one file under 8 MB that opens from disk, without a server and without a request. It shows the clip under
every strategy, at each ratio, with its flow, the way of any token, and how far the masks agree; it lists its keys.
Change any field of the config with --config.FIELD=VALUE, as for `mgmae pretrain`; --config.flow.source=none leaves
out the flow, and the strategies that need it."""
_STRATEGIES = ("motion", "tube", "random")
_RATIOS = (0.75, 0.8, 0.9, 0.95)
_GIVEN_BY = {"mask.strategy": "--strategies", "mask.ratio": "--ratios"}


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae explore`."""
    command = command_parser("explore", __doc__, EXAMPLE)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("video", nargs="?", type=path_option("VIDEO"), metavar="VIDEO", help="a video file")
    what.add_argument(
        "--motion-shapes", metavar="CLASS", choices=CLASSES,
        help="instead of a VIDEO, a procedural one: " + ", ".join(CLASSES),
    )  # fmt: skip
    command.add_argument(
        "--out", type=path_option("--out"), default=Path("explore.html"), metavar="FILE",
        help="the page, .html; default: explore.html",
    )  # fmt: skip
    command.add_argument(
        "--strategies", nargs="+", action="extend", metavar="NAME", choices=list(STRATEGIES),
        help=f"up to {MOST_STRATEGIES} of {', '.join(STRATEGIES)} (default {' '.join(_STRATEGIES)})",
    )  # fmt: skip
    command.add_argument(
        "--ratios", nargs="+", action="extend", type=float, metavar="RATIO",
        help=f"up to {MOST_RATIOS} shares of the tokens to hide (default {' '.join(map(str, _RATIOS))})",
    )  # fmt: skip
    command.add_argument(
        "--config", default="pretrain/common", metavar="NAME", help=f"{CONFIG_HELP}; default: pretrain/common"
    )
    command.add_argument("--start", type=int, metavar="FRAME", help="first frame; default: the clip is in the middle")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the masks and the procedural video")
    command.add_argument(
        "--weights", type=text_option("--weights"), metavar="FILE", help="RAFT-small's weights, as config.flow.weights"
    )
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae explore"."""
    args, overrides = parse_with_overrides(parser(), argv)
    check_page_path(args.out)
    strategies, ratios = list(dict.fromkeys(args.strategies or _STRATEGIES)), sorted(set(args.ratios or _RATIOS))
    _check(strategies, ratios, overrides)
    overrides += [f"--config.flow.weights={args.weights}"] if args.weights else []
    config = load_config(args.config, overrides)
    check_kind(config, "pretrain")
    steps = mask_steps(config, strategies, ratios)
    check_backend()
    enable_compilation_cache(config.compile_cache or None)
    spec = ClipSpec(config.clip.frames, config.clip.stride, config.clip.size)
    if args.motion_shapes:
        clip, title = motion_shapes_clip(args.motion_shapes, args.seed, spec, args.start)
    else:
        clip, title = video_clip(args.video, spec, args.start)
    flow = _flow(args, config, steps[0][0], clip, spec)
    # Each strategy has a key of its own: two that draw from the same one share tokens by that alone.
    root = stream(jax.random.key(args.seed), 0, "mask")
    keys = [named_key(root, name, tuple(STRATEGIES)) for name in strategies]
    visible = np.stack(
        [[visible_tokens(step, clip, flow, key) for step, key in zip(row, keys, strict=True)] for row in steps]
    )
    grid = steps[0][0].grid
    explored = ExploredClip(
        title=title,
        note=_note(steps[0], args.seed),
        frames=clip,
        tubelet=grid.tubelet,
        strategies=strategies,
        ratios=ratios,
        visible=visible,
        flow=None if flow is None else np.asarray(resample_cells(jnp.asarray(flow), grid.rows, grid.columns)),
    )
    write_text(args.out, explore_page(explored, args.out))
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)", file=sys.stderr)


def _check(strategies: Sequence[str], ratios: Sequence[float], overrides: Sequence[str]) -> None:
    """Checks what the parser does not.

    Raises:
      MgmaeError: too many strategies or ratios, or they are given as fields of the config.
    """
    for flag, values, most in (("--strategies", strategies, MOST_STRATEGIES), ("--ratios", ratios, MOST_RATIOS)):
        if len(values) > most:
            raise MgmaeError(f"{flag}: {len(values)} are too many for a page: give at most {most}")
    for override in overrides:
        if given := _GIVEN_BY.get(override.partition("=")[0].removeprefix("--config.")):
            raise MgmaeError(f"{override}: a page has several; give them by {given}")


def _flow(
    args: argparse.Namespace, config: ConfigDict, masks: MaskStep, clip: np.ndarray, spec: ClipSpec
) -> np.ndarray | None:
    """Flow between neighbouring frames, forwards and backwards, in pixels; None where there is none."""
    wanted = both_ways(config, masks)
    if wanted is None:
        if masks.flow.source == "none":
            return None
        return raft_both_ways(load_flow_params(config.flow.weights), clip, masks)
    if wanted.source in ("tvl1", "dis"):
        return host_clip_flow(clip, wanted)
    if args.motion_shapes:
        if wanted.source == "codec":
            raise ConfigError("flow.source", "codec", "raft, dis, tvl1 or stored: what is rendered has no encoder")
        stored = motion_shapes_flow(args.motion_shapes, args.seed, spec, args.start, wanted)
    else:
        root, folder = flow_folders(config, args.video)
        stored = video_flow(args.video, spec, args.start, dataclasses.replace(wanted, root=root, folder=folder))
    return read_both_ways(packed(stored), masks)


def _note(masks: Sequence[MaskStep], seed: int) -> str:
    first = masks[0]
    grid, source = first.grid, first.flow.source
    note = (
        f"{grid.frames} frames of {grid.width}x{grid.height} pixels in {grid.tubelets}x{grid.rows}x{grid.columns} "
        f"tokens of {grid.tubelet}x{grid.patch}x{grid.patch}. Masks of seed {seed}. "
    )
    note += "No flow." if source == "none" else f"Flow: {FLOW_SOURCES[source]}."
    learning = [step.mask.strategy for step in masks if step.strategy.init is not None]
    return note + (f" Not trained yet: {', '.join(learning)}." if learning else "")
