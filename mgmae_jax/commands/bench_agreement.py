"""`mgmae bench agreement`: how many visible tokens two ways of computing flow have in common."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key
from ml_collections import ConfigDict

from mgmae_jax.bench.agreement import agreement, visible_mask, visible_tokens
from mgmae_jax.bench.flow import mask_flow
from mgmae_jax.bench.flow_methods import CLASSICAL
from mgmae_jax.bench.machine import describe_machine
from mgmae_jax.bench.report import machine_line, markdown_table
from mgmae_jax.commands.bench_flow import BUNDLED, find_method, method_names
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.file_names import short_names
from mgmae_jax.commands.options import command_parser, parse_with_overrides, path_option, source_option
from mgmae_jax.commands.output_files import check_plot, make_folder
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.remote import is_remote
from mgmae_jax.data.sources import read_source
from mgmae_jax.errors import ConfigError, FileError, MgmaeError, VideoError
from mgmae_jax.flow.packed import packed
from mgmae_jax.masking.mask_input import base_frame
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
from mgmae_jax.runtime.files import write_json
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.show.agreement import agreement_strip
from mgmae_jax.show.clip import video_clip, video_flow
from mgmae_jax.show.cost import CostPoint, draw_cost
from mgmae_jax.show.video_out import write_png
from mgmae_jax.train.clips import flow_spec
from mgmae_jax.train.masks import MaskStep, build_mask_step

EXAMPLE = f"""example:
  mgmae bench agreement VIDEOS --reference raft-small.pth --methods bundled tvl1_fast none
  mgmae bench agreement VIDEOS --reference raft-small.pth --pictures strips
  mgmae bench agreement VIDEOS --reference bundled --methods bundled,mask.preset=fast bundled,mask.warp=trajectory \\
      --plot cost.png

VIDEOS is a folder of videos, or a .csv or .jsonl list; the clip in the middle of each video is used. The masks of both
flows are drawn from the same random centres. A method is a file of RAFT-small's weights, `bundled` (those of the
package), `codec` (the motion vectors in the video), or one of {", ".join(CLASSICAL)}; `none` is tube
masking. Change fields with --config.FIELD=VALUE; the defaults are the paper's (pretrain/common; 4 frames apart, as for
Kinetics). Fields of mask and flow that differ for one method follow it, after commas."""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae bench agreement`."""
    command = command_parser("bench agreement", __doc__, EXAMPLE)
    command.add_argument("videos", metavar="VIDEOS", type=source_option("VIDEOS"), help="a folder of videos, or a list")
    command.add_argument("--reference", required=True, metavar="METHOD", help="what the others are compared with")
    command.add_argument("--methods", nargs="+", action="extend", metavar="METHOD", help=f"default: {BUNDLED}")
    command.add_argument("--masks", type=int, default=8, help="random masks per clip (default 8)")
    command.add_argument(
        "--pictures",
        type=path_option("--pictures"),
        metavar="FOLDER",
        help="write a strip for each video and method to this folder",
    )
    command.add_argument(
        "--plot",
        type=path_option("--plot"),
        metavar="FILE",
        help="also time the methods, and draw cost against agreement (.png, .svg or .pdf)",
    )
    command.add_argument("--json", type=path_option("--json"), metavar="FILE", help="write all numbers to this file")
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae bench agreement"."""
    command = parser()
    args, overrides = parse_with_overrides(command, argv)
    if args.masks < 1:
        command.error(f"--masks {args.masks}: give 1 or more")
    if args.plot:
        check_plot(args.plot)
    config, masks = motion_masks(overrides)
    grid, mask = masks.grid, masks.mask
    spec = ClipSpec(config.clip.frames, config.clip.stride, config.clip.size)
    check_backend()
    reference = find_way(args.reference, overrides)
    ways = {name: find_way(name, overrides) for name in args.methods or [BUNDLED]}
    short = method_names([args.reference, *ways])
    videos = video_files(args.videos, "VIDEOS")
    video_names = short_names(videos, "VIDEOS")
    enable_compilation_cache(config.compile_cache or None)
    if args.pictures:
        make_folder(args.pictures)

    keys = per_example(stream(jax.random.key(config.seed), 0, "mask"), 0, args.masks)
    cells = (grid.tubelets, grid.rows, grid.columns)
    rows: list[dict[str, Any]] = []
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for path in videos:
        try:
            clip, title = video_clip(path, spec, None)
        except VideoError as error:
            raise VideoError(error.path, f"{error.reason}; leave it out of the list") from error
        reference_flow, reference_tokens = reference(path, clip, keys)
        row = {"video": video_names[path], "mean_flow": float(np.linalg.norm(reference_flow, axis=-1).mean())}
        for name, way in ways.items():
            flow, own = way(path, clip, keys)
            row[name] = agreement(reference_tokens, own)
            if args.plot:
                seconds[name].append(time_of(way, path, clip, keys[:1]))
            if args.pictures:
                caption = (
                    f"{title}. {row[name]:.0%} of the visible tokens agree, over {args.masks} masks; one is shown."
                )
                picture = agreement_strip(
                    (short[args.reference], short[name]),
                    (in_pixels(reference_flow, grid), in_pixels(flow, grid)),
                    (np.asarray(reference_tokens[0]).reshape(cells), np.asarray(own[0]).reshape(cells)),
                    base=int(base_frame(keys[0], grid.frames, mask)),
                    patch=grid.patch,
                    tubelet=grid.tubelet,
                    caption=caption,
                )
                write_png(args.pictures / f"{video_names[path]}_{short[name]}.png", picture)
        rows.append(row)
        print(f"{row['video']}: " + ", ".join(f"{name} {row[name]:.3f}" for name in ways), flush=True)
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("mean_flow", *ways)}
    rows.append({"video": "mean", **mean})
    if args.plot:
        cost = {name: float(np.median(times)) * 1000 for name, times in seconds.items()}
        rows.append({"video": "ms a clip", **cost})
        points = {short[name]: [CostPoint(cost[name], mean[name])] for name in ways}
        draw_cost(points, short[args.reference], args.plot)
    machine = describe_machine()
    print(
        f"\n{machine_line(machine)}\nVisible tokens in common with {args.reference}: {spec.frames} frames of "
        f"{spec.size}x{spec.size}, {spec.stride} apart, mask ratio {mask.ratio}, RAFT {config.flow.iters} updates; "
        f"{args.masks} masks a clip\n\n{table(rows, {name: short[name] for name in ways})}"
    )
    if args.json:
        content = {"bench": "agreement", "machine": machine, "reference": args.reference, "rows": rows}
        write_json(args.json, content | {"config": config.to_dict()})


def motion_masks(overrides: Sequence[str]) -> tuple[ConfigDict, MaskStep]:
    """The config and the masking step that the overrides make of the paper's.

    Raises:
      MgmaeError: a field is unknown, its value does not work, or the masks do not follow motion from a fixed base.
    """
    config = load_config("pretrain/common", overrides)
    masks = build_mask_step(config)
    mask = masks.mask
    if not masks.needs_flow or mask.base_frame == "random":
        raise ConfigError("mask", f"{mask.strategy}, base_frame {mask.base_frame}", "motion, with a fixed base frame")
    return config, masks


Way = Callable[[str, np.ndarray, Key[Array, "K"]], tuple[np.ndarray, Bool[Array, "K N"]]]
"""(a video's path, its clip uint8 [T, H, W, 3], keys) -> flow, and for a mask of each key which tokens are visible."""


def find_way(text: str, overrides: Sequence[str]) -> Way:
    """A way to masks: a flow method, then fields of mask and flow as in "bundled,flow.iters=4,mask.warp=trajectory".

    Args:
      text: a word of the command line.
      overrides: those of all ways.

    Raises:
      MgmaeError: the method or a field is unknown, or a value does not work.
    """
    name, *fields = text.split(",")
    if wrong := [field for field in fields if not field.startswith(("mask.", "flow.")) or "=" not in field]:
        raise MgmaeError(
            f"METHOD {text}: after commas give fields of mask or flow, as in mask.warp=trajectory, not {wrong[0]!r}"
        )
    fields += ["flow.source=codec"] if name == "codec" else []
    config, masks = motion_masks([*overrides, *(f"--config.{field}" for field in fields)])
    options, grid, mask = masks.flow, masks.grid, masks.mask
    if name == "codec":
        flow_of = vector_flow(config, masks)
    else:
        method = find_method(name, options.iters, size=options.size, dtype=options.dtype, points=masks.points)

        def flow_of(path: str, clip: np.ndarray) -> np.ndarray:
            return mask_flow(method, clip, mask, masks.both_ways)

    draw = jax.jit(lambda flow, keys: visible_mask(visible_tokens(flow, keys, grid, mask), grid))

    def way(path: str, clip: np.ndarray, keys: Key[Array, "K"]) -> tuple[np.ndarray, Bool[Array, "K N"]]:
        flow = flow_of(path, clip)
        return flow, draw(flow, keys)

    return way


def vector_flow(config: ConfigDict, masks: MaskStep) -> Callable[[str, np.ndarray], np.ndarray]:
    """The flow of a video's clip from its motion vectors, which decodes the clip again."""
    spec, wanted = ClipSpec(config.clip.frames, config.clip.stride, config.clip.size), flow_spec(config, masks)
    assert wanted is not None
    read = jax.jit(lambda clip, given: masks.flow_of({}, jax.random.key(0), clip, given))
    return lambda path, clip: np.asarray(read(clip, packed(video_flow(path, spec, None, wanted))))


def time_of(way: Way, path: str, clip: np.ndarray, key: Key[Array, "1"]) -> float:
    """Seconds for the flow and one mask of a clip, the second time; for codec, with decoding the clip."""
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(way(path, clip, key))
        taken = time.perf_counter() - start
    return taken


def in_pixels(flow: np.ndarray, grid: TokenGrid) -> np.ndarray:
    """The flow of every pixel, for a picture."""
    return np.asarray(resample_cells(jnp.asarray(flow[: grid.frames - 1]), grid.height, grid.width))


def table(rows: Sequence[Mapping[str, Any]], methods: Mapping[str, str]) -> str:
    """The rows as a Markdown table, for methods with their short names; a row without flow is one of times."""
    lines = [("video", "mean flow px", *methods.values())]
    for row in rows:
        flow, places = (f"{row['mean_flow']:.1f}", 3) if "mean_flow" in row else ("", 0)
        lines.append((row["video"], flow, *(f"{row[name]:.{places}f}" for name in methods)))
    return markdown_table(lines)


def video_files(path: str, field: str) -> tuple[str, ...]:
    """The videos of a folder or a list, for a command that reads only files.

    Args:
      path: the folder or list.
      field: what gave it, see `read_source`.

    Raises:
      MgmaeError: see `read_source`; or the videos are in a bucket or in records.
    """
    videos = read_source(path, field)
    if videos.opener is not None:
        first = next(filter(is_remote, videos.paths), videos.paths[0])
        raise FileError(path, f"lists {first}, which is not a file here: mount the bucket (gcsfuse) and list its files")
    return videos.paths
