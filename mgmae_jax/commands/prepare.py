"""`mgmae prepare`: write videos to records, which are read faster than files."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mgmae_jax.commands.options import command_parser, path_option
from mgmae_jax.data.cores import usable_cores
from mgmae_jax.data.encode import Encoding
from mgmae_jax.data.record_lists import PREFIX
from mgmae_jax.data.sources import read_source
from mgmae_jax.datasets.listed import ListedSplit, own_split
from mgmae_jax.datasets.official import OFFICIAL, find_official, read_official, size_notes
from mgmae_jax.datasets.prepare import LEFT_OUT, in_processes, on_beam, prepare
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.paths import source_path
from mgmae_jax.runtime.progress import Progress

EXAMPLE = """examples:
  mgmae prepare VIDEOS --out records/mine
  mgmae prepare train=train.csv test=test.csv --out records/mine --short-side 256 --key-frames 16
  mgmae prepare ucf101_videos/split1 --manual-dir DOWNLOADS --out records/ucf101
  mgmae pretrain --config pretrain/folder --workdir runs/mine --config.data.path=records/mine

A source is a folder of videos, a .csv or .jsonl list, or records, for a split of its own (SPLIT=SOURCE; train, if it is
not named); or a published data set by name, whose files --manual-dir holds: something_something_v2, kinetics/400,
kinetics/600, kinetics/700, ucf101_videos/split1 (2, 3), hmdb51/split1 (2, 3). Videos keep their bytes, or are encoded
again if one of --short-side, --key-frames and --codec is given (folders of frames always are). Run the same command
again to resume: records are the same, however often it was interrupted. Videos that are missing or cannot be read are
left out, and listed in left_out.jsonl.

--runner has Apache Beam write the shards (pip install 'mgmae-jax[beam]'), on this machine or a cluster:
  mgmae prepare VIDEOS --out records/mine --runner DirectRunner"""


def parser() -> argparse.ArgumentParser:
    """The options of `mgmae prepare`."""
    command = command_parser("prepare", __doc__, EXAMPLE)
    command.add_argument("sources", nargs="+", metavar="[SPLIT=]SOURCE", help="videos, or the name of a data set")
    command.add_argument("--out", required=True, type=path_option("--out"), metavar="DIR", help="folder of the records")
    command.add_argument(
        "--manual-dir", type=path_option("--manual-dir"), metavar="DIR", help="what was downloaded of a data set"
    )
    command.add_argument("--name", help="name of the records (default: the data set's, or videos)")
    command.add_argument("--short-side", type=int, metavar="PIXELS", help="encode again, scaled down to this")
    command.add_argument("--key-frames", type=int, metavar="N", help="encode again, every N-th a keyframe (default 16)")
    command.add_argument("--codec", choices=["h264", "vp9"], help="encode again by this codec (default h264)")
    command.add_argument(
        "--processes", type=int, default=usable_cores(), metavar="N", help="default: one for each core that it may use"
    )
    command.add_argument("--runner", help="of Apache Beam, instead of processes: DirectRunner, DataflowRunner, ...")
    command.add_argument("--beam-options", metavar="TEXT", help='of the runner: "--project=NAME --region=europe-west4"')
    return command


def main(argv: Sequence[str]) -> None:
    """Runs the command; `argv` is without "mgmae prepare"."""
    command = parser()
    args = command.parse_args(argv)
    if args.processes < 1:
        command.error(f"--processes {args.processes}: give 1 or more")
    if args.beam_options is not None and not args.runner:
        command.error(f"--beam-options {args.beam_options!r}: only with --runner")
    try:
        beam_options = shlex.split(args.beam_options or "")
    except ValueError as error:
        command.error(f"--beam-options {args.beam_options!r}: {error}: close what it opens")
    name, splits = _splits(args.sources, args.manual_dir)
    encoding = None
    if args.short_side is not None or args.key_frames is not None or args.codec is not None:
        given = {"key_frames": args.key_frames, "codec": args.codec}
        encoding = Encoding(args.short_side, **{key: value for key, value in given.items() if value is not None})
    run = on_beam(args.runner, beam_options) if args.runner else in_processes(args.processes)
    bar: Progress | None = None
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = Progress(total, unit="video", items="videos", start_step=total)
        bar.advance(done, f"{done / max(time.monotonic() - began, 1e-9):.1f} videos/s")

    made = prepare(splits, args.out, args.name or name, encoding, run, show)
    if bar is not None:
        bar.close()
    counted = ", ".join(f"{count} {split}" for split, count in made.records.items())
    print(f"{args.out}: {counted} videos; train on them with --config.data.path={args.out}", file=sys.stderr)
    if made.left_out:
        why = f"{args.out / LEFT_OUT} says why; once they are repaired, prepare all again into another folder"
        print(f"{made.left_out} videos are left out: {why}", file=sys.stderr)


def _splits(sources: Sequence[str], manual_dir: Path | None) -> tuple[str, dict[str, ListedSplit]]:
    """The name and the splits of a data set.

    Raises:
      MgmaeError: a source cannot be listed, or two are of one split.
    """
    first = sources[0]
    # Records, or a folder that is called like a data set; with --manual-dir, the published one is meant.
    is_path = manual_dir is None and (first.startswith(PREFIX) or os.path.exists(first))
    official = None if is_path else find_official(first.removeprefix(PREFIX))
    if official is not None:
        if len(sources) > 1 or manual_dir is None:
            raise MgmaeError(f"{first}: give it alone, with --manual-dir DIR: {OFFICIAL[official[0]].instructions}")
        found = read_official(manual_dir, *official)
        for note in size_notes(*official, found):
            print(note, file=sys.stderr)
        return official[0], found
    splits: dict[str, ListedSplit] = {}
    for source in sources:
        split, equals, path = source.partition("=")
        if not equals or not split.isidentifier():
            split, path = "train", source
        if split in splits:
            raise MgmaeError(f"{source}: there are two sources for {split}: give SPLIT=SOURCE for each.")
        located = source_path(path, "SOURCE")
        splits[split] = own_split(read_source(located, "SOURCE"), path)
    return "videos", splits
