"""`mgmae check-data`: read every video once, and say what is broken and what the videos are like."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mgmae_jax.commands.options import command_parser, path_option, source_option
from mgmae_jax.commands.output_files import make_folder
from mgmae_jax.data.check import Checked, check_videos, statistics
from mgmae_jax.data.cores import usable_cores
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.files import whole_file, write_json, write_text
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.show.contact_sheet import Thumbnail, contact_sheet

EXAMPLE = """examples:
  mgmae check-data VIDEOS --out checked
  mgmae check-data tfds:ucf101_videos/split1@test --out checked

VIDEOS is a folder of videos, a .csv or .jsonl list, or records. DIR gets broken.jsonl, the videos that cannot be read
and why; videos.jsonl, frames, size, fps and bytes of each, how many of its frames are lost, and by how many seconds it
ends before its header says; statistics.json; and contact_sheet.png, frames of videos from the whole list. The exit
status is 1 if a video is broken."""
BROKEN, VIDEOS, STATISTICS, SHEET = "broken.jsonl", "videos.jsonl", "statistics.json", "contact_sheet.png"
_SHOWN = 20  # broken videos that are printed
_PICTURES, _WIDTH = 48, 128


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae check-data`."""
    command = command_parser("check-data", __doc__, EXAMPLE)
    command.add_argument("videos", metavar="VIDEOS", type=source_option("VIDEOS"), help="a folder, a list or records")
    command.add_argument("--out", required=True, type=path_option("--out"), metavar="DIR", help="folder of the report")
    command.add_argument(
        "--processes", type=int, default=usable_cores(), metavar="N", help="default: one for each core that it may use"
    )
    return command


def main(argv: Sequence[str]) -> int:
    """Runs the command; `argv` is without "mgmae check-data"."""
    command = parser()
    args = command.parse_args(argv)
    if args.processes < 1:
        command.error(f"--processes {args.processes}: give 1 or more")
    videos = read_source(args.videos, "VIDEOS")
    make_folder(args.out)
    shown = np.unique(np.linspace(0, len(videos) - 1, min(_PICTURES, len(videos))).astype(int)).tolist()
    bar, began, broken = Progress(len(videos), start_step=len(videos), unit="video"), time.monotonic(), 0
    checked: list[Checked] = []
    pictures: dict[int, np.ndarray] = {}
    stopped: MgmaeError | KeyboardInterrupt | None = None
    try:
        for one in check_videos(videos, args.processes, shown, _WIDTH):
            checked.append(dataclasses.replace(one, picture=None))  # as there may be hundreds of thousands
            if one.picture is not None:
                pictures[len(checked) - 1] = one.picture
            broken += one.problem is not None
            speed = len(checked) / max(time.monotonic() - began, 1e-9)
            bar.advance(len(checked), f"{broken} broken  {speed:.1f} videos/s")
    except (MgmaeError, KeyboardInterrupt) as error:  # what was found until then may have taken hours
        if not checked:
            raise
        stopped = error
    bar.close()
    numbers = statistics(checked, videos.take(range(len(checked))))
    write_reports(args.out, checked, numbers)
    if pictures:
        draw_sheet(args.out / SHEET, pictures, checked, videos, f"{args.videos}: {len(checked)} videos")
    print(summary(numbers))
    for one in [one for one in checked if one.problem is not None][:_SHOWN]:
        print(f"broken: {one.name}: {one.problem}", file=sys.stderr)
    only = "" if stopped is None else f": only the first {len(checked)} of {len(videos)} videos"
    print(f"wrote {args.out}{only}", file=sys.stderr)
    if stopped is not None:
        raise stopped
    return 1 if broken else 0


def write_reports(out: Path, checked: Sequence[Checked], numbers: dict[str, Any]) -> None:
    """Writes broken.jsonl, videos.jsonl and statistics.json."""
    good = [json.dumps(one.facts()) for one in checked if not one.problem]
    bad = [json.dumps({"path": one.name, "reason": one.problem}) for one in checked if one.problem]
    write_text(out / VIDEOS, "".join(f"{line}\n" for line in good))
    write_text(out / BROKEN, "".join(f"{line}\n" for line in bad))
    write_json(out / STATISTICS, numbers)


def draw_sheet(
    path: Path, pictures: dict[int, np.ndarray], checked: Sequence[Checked], videos: VideoList, title: str
) -> None:
    """Writes the contact sheet.

    Args:
      path: the PNG file.
      pictures: a frame of some videos, by their numbers.
      checked: what was found in all of them.
      videos: their list.
      title: the line above.
    """
    thumbnails = []
    for number, image in pictures.items():
        one, label = checked[number], -1 if videos.labels is None else videos.labels[number]
        named = [] if label < 0 else [videos.class_names[label] if videos.class_names else str(label)]
        lines = (Path(one.name).name, *named, f"{one.width}x{one.height}, {one.frames} frames")
        thumbnails.append(Thumbnail(image, lines))
    with whole_file(path) as partial:
        Image.fromarray(contact_sheet(thumbnails, title, _WIDTH)).save(partial, "PNG")


def summary(numbers: dict[str, Any]) -> str:
    """The statistics as a table for people."""
    columns = ("min", "5%", "median", "95%", "max")
    lines = [
        f"{numbers['videos']} videos, {numbers['hours']:g} hours: {numbers['broken']} broken, "
        f"{numbers['with_lost_frames']} with lost frames, {numbers['ending_early']} ending early"
    ]
    lines.append("".join(f"{name:>12}" for name in ("", *columns)))
    for name in ("frames", "fps", "seconds", "height", "width", "bytes"):
        if name in numbers:
            lines.append(f"{name:>12}" + "".join(f"{numbers[name][column]:>12g}" for column in columns))
    if "labels" in numbers:
        counts = sorted(numbers["labels"].values())
        empty = f", {counts.count(0)} without any" if not counts[0] else ""
        lines.append(f"{len(counts)} classes of {counts[0]} to {counts[-1]} readable videos{empty}")
    return "\n".join(lines)
