"""`mgmae visualize`: draw how a video's motion becomes its mask (the paper's Figure 5)."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from mgmae_jax.commands.config_file import file_config, load_run_config
from mgmae_jax.commands.flow_params import load_flow_params
from mgmae_jax.commands.pictures import mask_and_reconstruct
from mgmae_jax.data.clips import ClipSpec
from mgmae_jax.datasets.motion_shapes import CLASSES
from mgmae_jax.errors import FileError
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.rng import stream
from mgmae_jax.show.clip import motion_shapes_clip, video_clip
from mgmae_jax.show.strip import motion_strip
from mgmae_jax.show.video_out import motion_animation, write_animation, write_png
from mgmae_jax.train.from_config import build_pretraining

EXAMPLE = """examples:
  mgmae visualize VIDEO.mp4 --config.flow.source=tvl1 --out masks.png
  mgmae visualize VIDEO.mp4 --weights raft-small.pth --config.clip.stride=2 --out masks.gif
  mgmae visualize VIDEO.mp4 --checkpoint runs/mine --out reconstruction.png
  mgmae visualize --motion-shapes pushed_right --seed 5 --config.flow.source=tvl1 --config.clip.stride=2 \\
      --out shapes.png

Every field of the config is changed by --config.FIELD=VALUE, as for `mgmae pretrain`."""
_FPS = 5  # slow enough to follow the cubes


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae visualize"."""
    parser = argparse.ArgumentParser(
        "mgmae visualize", description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("video", nargs="?", metavar="VIDEO", help="a video file")
    what.add_argument(
        "--motion-shapes", metavar="CLASS", choices=CLASSES,
        help="instead of a VIDEO, a procedural one: " + ", ".join(CLASSES),
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("masks.png"), metavar="FILE", help=".png, .gif or .mp4; default: masks.png"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--checkpoint", type=Path, help="a run's workdir or one of its checkpoints: adds reconstructions"
    )
    which.add_argument("--config", metavar="FILE", help="a Python file of configs/; default: configs/common.py")
    parser.add_argument("--start", type=int, metavar="FRAME", help="first frame; default: the clip is in the middle")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the mask and the procedural video")
    parser.add_argument("--weights", metavar="FILE", help="RAFT-small's weights, as config.flow.weights")
    args, overrides = parser.parse_known_args(argv)
    if args.out.suffix.lower() not in (".png", ".gif", ".mp4"):
        raise FileError(args.out, "pictures are written as .png, .gif or .mp4; give --out one of these endings.")
    overrides += [f"--config.flow.weights={args.weights}"] if args.weights else []
    config = (
        load_run_config(args.checkpoint, overrides)
        if args.checkpoint
        else file_config(args.config, "common.py", overrides)
    )
    pretraining = build_pretraining(config, videos=1)
    spec = ClipSpec(config.clip.frames, config.clip.stride, config.clip.size)
    if args.motion_shapes:
        clip, title = motion_shapes_clip(args.motion_shapes, args.seed, spec, args.start)
    else:
        clip, title = video_clip(args.video, spec, args.start)
    flow_params = load_flow_params(config.flow.weights) if pretraining.masks.runs_raft else {}
    enable_compilation_cache(config.compile_cache or None)
    key = stream(jax.random.key(args.seed), 0, "mask")
    picture = mask_and_reconstruct(pretraining, args.checkpoint, flow_params, clip, key, title)
    if args.out.suffix.lower() == ".png":
        write_png(args.out, motion_strip(picture))
    else:
        write_animation(args.out, motion_animation(picture), _FPS)
    print(f"wrote {args.out}", file=sys.stderr)
