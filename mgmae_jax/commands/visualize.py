"""`mgmae visualize`: draw how motion becomes a mask (the paper's Figure 5), or the pairs that flow is learned from."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from mgmae_jax.commands.checkpoints import (
    CHECKPOINT_HELP,
    add_weights_options,
    asked_of,
    check_unasked,
    checkpoint_option,
    model_config,
    open_checkpoint,
)
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import CONFIG_HELP
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option, text_option
from mgmae_jax.commands.pictures import mask_and_reconstruct
from mgmae_jax.commands.strategy_pictures import flow_reader, strategies_picture, strategy_steps
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import host_clip_flow
from mgmae_jax.datasets.find import flow_folders
from mgmae_jax.datasets.flow_pairs.banks import make_banks
from mgmae_jax.datasets.flow_pairs.pair import draw_pair
from mgmae_jax.datasets.flow_pairs.scene import sample_scene
from mgmae_jax.datasets.motion_shapes import CLASSES
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.flow.packed import packed
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.masking.strategies import STRATEGIES
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.rng import stream
from mgmae_jax.show.clip import motion_shapes_clip, motion_shapes_flow, video_clip, video_flow
from mgmae_jax.show.flow_pairs import ShownPair, pairs_picture
from mgmae_jax.show.strip import motion_strip
from mgmae_jax.show.video_out import motion_animation, write_animation, write_png
from mgmae_jax.train.clips import flow_spec
from mgmae_jax.train.pretrain import build_pretraining

EXAMPLE = """examples:
  mgmae visualize VIDEO.mp4 --out masks.png
  mgmae visualize VIDEO.mp4 --weights raft-small.pth --config.clip.stride=2 --out masks.gif
  mgmae visualize VIDEO.mp4 --checkpoint runs/mine --out reconstruction.png
  mgmae visualize --motion-shapes pushed_right --seed 5 --config.clip.stride=2 --out shapes.png
  mgmae visualize VIDEO.mp4 --strategies motion tube random --out strategies.png
  mgmae visualize --synthetic-flow 8 --out pairs.png

Change any field of the config with --config.FIELD=VALUE, as for `mgmae pretrain`."""
_PAIR_SIDE, _MOST_PAIRS = 224, 64
_FPS = 5  # slow enough to follow the cubes


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae visualize`."""
    command = command_parser("visualize", __doc__, EXAMPLE)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("video", nargs="?", type=path_option("VIDEO"), metavar="VIDEO", help="a video file")
    what.add_argument(
        "--motion-shapes", metavar="CLASS", choices=CLASSES,
        help="instead of a VIDEO, a procedural one: " + ", ".join(CLASSES),
    )  # fmt: skip
    what.add_argument(
        "--synthetic-flow", type=int, metavar="N", help="draw N of the pairs that `mgmae train-flow` learns from"
    )
    command.add_argument(
        "--out",
        type=path_option("--out"),
        default=Path("masks.png"),
        metavar="FILE",
        help=".png, .gif or .mp4; default: masks.png",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--checkpoint",
        type=checkpoint_option("--checkpoint"),
        help=f"{CHECKPOINT_HELP}: adds reconstructions",
    )
    which.add_argument(
        "--config", default="pretrain/common", metavar="NAME", help=f"{CONFIG_HELP}; default: pretrain/common"
    )
    command.add_argument(
        "--strategies", nargs="+", action="extend", choices=list(STRATEGIES), metavar="NAME",
        help="instead, a row for the masks of each of these strategies, side by side: " + ", ".join(STRATEGIES),
    )  # fmt: skip
    command.add_argument("--start", type=int, metavar="FRAME", help="first frame; default: the clip is in the middle")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the mask and the procedural video")
    command.add_argument(
        "--weights", type=text_option("--weights"), metavar="FILE", help="RAFT-small's weights, as config.flow.weights"
    )
    add_weights_options(command)
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae visualize"."""
    command = parser()
    args, overrides = parse_with_overrides(command, argv)
    if args.out.suffix.lower() not in (".png", ".gif", ".mp4"):
        raise FileError(args.out, "pictures are written as .png, .gif or .mp4; give --out one of these extensions.")
    asked = asked_of(args)
    if not args.checkpoint:
        check_unasked(asked, "--checkpoint")
    if args.synthetic_flow is not None:
        without = ("checkpoint", "config", "strategies", "start", "weights")
        if given := [f"--{name}" for name in without if getattr(args, name) != command.get_default(name)]:
            raise MgmaeError(f"{', '.join(given)}: without effect on the pairs of --synthetic-flow; leave it out.")
        if overrides:
            raise MgmaeError(f"unknown argument {overrides[0]!r}: --synthetic-flow reads no config.")
        return draw_synthetic_pairs(args.synthetic_flow, args.seed, args.out)
    if args.strategies:
        if args.checkpoint:
            raise MgmaeError("--strategies: draws masks without a model; leave --checkpoint out.")
        if args.out.suffix.lower() != ".png":
            raise FileError(args.out, "strategies are drawn side by side as .png")
    overrides += [f"--config.flow.weights={args.weights}"] if args.weights else []
    checkpoint = open_checkpoint(args.checkpoint, asked) if args.checkpoint else None
    config = model_config(checkpoint, overrides) if checkpoint else load_config(args.config, overrides)
    check_backend()
    compared = strategy_steps(config, args.strategies or [])
    if compared:
        config.mask.strategy = args.strategies[0]  # the config's own need not work with the flow that these need
    pretraining = build_pretraining(config, videos=1)
    reader = flow_reader(compared) if compared else pretraining.masks
    spec = ClipSpec(config.clip.frames, config.clip.stride, config.clip.size)
    if args.motion_shapes:
        clip, title = motion_shapes_clip(args.motion_shapes, args.seed, spec, args.start)
    else:
        clip, title = video_clip(args.video, spec, args.start)
    flow: Any = None
    if (wanted := flow_spec(config, reader)) is not None:
        if wanted.source in ("tvl1", "dis"):
            flow = host_clip_flow(clip, wanted)
        elif args.motion_shapes:
            if wanted.source == "codec":
                raise ConfigError("flow.source", "codec", "raft, dis, tvl1 or stored: what is rendered has no encoder")
            flow = packed(motion_shapes_flow(args.motion_shapes, args.seed, spec, args.start, wanted))
        else:
            root, folder = flow_folders(config, args.video)
            wanted = dataclasses.replace(wanted, root=root, folder=folder)
            flow = packed(video_flow(args.video, spec, args.start, wanted))
    flow_params = load_flow_params(config.flow.weights) if reader.runs_raft else {}
    enable_compilation_cache(config.compile_cache or None)
    key = stream(jax.random.key(args.seed), 0, "mask")
    if compared:
        write_png(args.out, strategies_picture(compared, flow_params, clip, flow, key, title))
    else:
        picture = mask_and_reconstruct(pretraining, checkpoint, flow_params, clip, flow, key, title)
        if args.out.suffix.lower() == ".png":
            write_png(args.out, motion_strip(picture))
        else:
            write_animation(args.out, motion_animation(picture), _FPS)
    print(f"wrote {args.out}", file=sys.stderr)


def draw_synthetic_pairs(count: int, seed: int, out: Path) -> None:
    """Draws the first pairs of synthetic motion of a seed.

    Raises:
      MgmaeError: the count or the seed is out of range, or the picture's path does not end in .png.
    """
    if not 1 <= count <= _MOST_PAIRS or seed < 0:
        raise MgmaeError(f"--synthetic-flow {count} --seed {seed}: give 1 to {_MOST_PAIRS} pairs, a seed of 0 or more")
    if out.suffix.lower() != ".png":
        raise FileError(out, "synthetic pairs are drawn as .png")
    banks = make_banks(seed)
    pairs = [draw_pair(banks, sample_scene(seed, index, _PAIR_SIDE), _PAIR_SIDE) for index in range(count)]
    caption = (
        f"Synthetic pairs 0 to {count - 1} of seed {seed}, {_PAIR_SIDE}x{_PAIR_SIDE} pixels. Flow by the Middlebury "
        "colours: right is red, down yellow, left cyan, up violet; white is still. Warped back, frame 2 looks like "
        "frame 1 except for light, noise and blur; red is what frame 2 hides."
    )
    write_png(out, pairs_picture([ShownPair(*pair) for pair in pairs], caption))
    print(f"wrote {out}", file=sys.stderr)
