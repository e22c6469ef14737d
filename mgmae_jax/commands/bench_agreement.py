"""`mgmae bench agreement`: how many visible tokens two ways of computing flow have in common."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mgmae_jax.bench.flow import agreement, mask_flow, visible_mask, visible_tokens
from mgmae_jax.bench.flow_methods import CLASSICAL
from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.report import machine_line, markdown_table
from mgmae_jax.commands.bench_flow import find_method, short_name
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.flow import video_files
from mgmae_jax.commands.options import command_parser, path_option, source_option
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.errors import ConfigError, FileError, VideoError
from mgmae_jax.masking.strategies import base_frame
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.files import write_json
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.show.agreement import agreement_strip
from mgmae_jax.show.clip import video_clip
from mgmae_jax.show.video_out import write_png
from mgmae_jax.train.masks import build_mask_step

EXAMPLE = f"""example:
  mgmae bench agreement VIDEOS --reference raft-small.pth --methods bundled tvl1_fast none
  mgmae bench agreement VIDEOS --reference raft-small.pth --pictures strips

VIDEOS is a folder of videos, or a .csv or .jsonl list; the clip in the middle of each video is used. The masks of both
flows are drawn from the same random centres. A method is a file of RAFT-small's weights, `bundled` (those of the
package), or one of {", ".join(CLASSICAL)}; `none` is tube masking. Change fields with --config.FIELD=VALUE; the
defaults are the paper's (pretrain/common; 4 frames apart, as for Kinetics)."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench agreement`."""
    command = command_parser("bench agreement", __doc__, EXAMPLE)
    command.add_argument("videos", metavar="VIDEOS", type=source_option("VIDEOS"), help="a folder of videos, or a list")
    command.add_argument("--reference", required=True, metavar="METHOD", help="what the others are compared with")
    command.add_argument("--methods", nargs="+", default=["bundled"], metavar="METHOD", help="default: bundled")
    command.add_argument("--masks", type=int, default=8, help="random masks per clip (default 8)")
    command.add_argument(
        "--pictures",
        type=path_option("--pictures"),
        metavar="FOLDER",
        help="write a strip for each video and method to this folder",
    )
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench agreement"."""
    command = parser()
    args, overrides = command.parse_known_args(argv)
    if args.masks < 1:
        command.error(f"--masks {args.masks}: give 1 or more")
    config = load_config("pretrain/common", overrides)
    masks = build_mask_step(config)
    grid, mask = masks.grid, masks.mask
    if not mask.needs_flow or mask.base_frame == "random":
        raise ConfigError("mask", f"{mask.strategy}, base_frame {mask.base_frame}", "motion, with a fixed base frame")
    spec = ClipSpec(config.clip.frames, config.clip.stride, config.clip.size)
    check_backend()
    reference = find_method(args.reference, config.flow.iters)
    methods = {name: find_method(name, config.flow.iters) for name in args.methods}
    enable_compilation_cache(config.compile_cache or None)
    if args.pictures:
        make_folder(args.pictures)

    keys = per_example(stream(jax.random.key(config.seed), 0, "mask"), 0, args.masks)
    tokens = jax.jit(lambda flow: visible_mask(visible_tokens(flow, keys, grid, mask), grid))
    cells = (grid.tubelets, grid.rows, grid.columns)
    rows: list[dict[str, Any]] = []
    for path in video_files(args.videos, "VIDEOS"):
        try:
            clip, title = video_clip(path, spec, None)
        except VideoError as error:
            raise VideoError(error.path, f"{error.reason}; leave it out of the list") from error
        reference_flow = mask_flow(reference, clip, mask)
        reference_tokens = tokens(reference_flow)
        row = {"video": Path(path).stem, "mean_flow": float(np.linalg.norm(reference_flow, axis=-1).mean())}
        for name, method in methods.items():
            flow = mask_flow(method, clip, mask)
            own = tokens(flow)
            row[name] = float(agreement(reference_tokens, own))
            if args.pictures:
                caption = (
                    f"{title}. {row[name]:.0%} of the visible tokens agree, over {args.masks} masks; one is shown."
                )
                picture = agreement_strip(
                    (short_name(args.reference), short_name(name)),
                    (reference_flow, flow),
                    (np.asarray(reference_tokens[0]).reshape(cells), np.asarray(own[0]).reshape(cells)),
                    base=int(base_frame(keys[0], grid.frames, mask)),
                    patch=grid.patch,
                    tubelet=grid.tubelet,
                    caption=caption,
                )
                write_png(args.pictures / f"{Path(path).stem}_{short_name(name)}.png", picture)
        rows.append(row)
        print(f"{row['video']}: " + ", ".join(f"{name} {row[name]:.3f}" for name in methods), flush=True)
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("mean_flow", *methods)}
    rows.append({"video": "mean", **mean})
    machine = describe_machine()
    print(
        f"\n{machine_line(machine)}\nVisible tokens in common with {args.reference}: {spec.frames} frames of "
        f"{spec.size}x{spec.size}, {spec.stride} apart, mask ratio {mask.ratio}, RAFT {config.flow.iters} updates; "
        f"{args.masks} masks a clip\n\n{table(rows, list(methods))}"
    )
    if args.json:
        content = {"bench": "agreement", "machine": machine, "reference": args.reference, "rows": rows}
        write_json(args.json, content | {"config": config.to_dict()})


def make_folder(folder: Path) -> None:
    """Makes the folder for pictures.

    Raises:
      FileError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(folder, f"cannot hold pictures: {error.strerror or error}") from error


def table(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> str:
    """The rows as a Markdown table."""
    lines = [("video", "mean flow px", *map(short_name, methods))]
    lines += [(row["video"], f"{row['mean_flow']:.1f}", *(f"{row[name]:.3f}" for name in methods)) for row in rows]
    return markdown_table(lines)
