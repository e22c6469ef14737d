"""Prepares videos again and again, killed before and after every file appears; a process without JAX, which may fork.

`python kill_prepare.py VIDEOS FOLDER` prints, for each place where it was killed, whether the completed records are
those of a run that was left alone.
"""

import os
import signal
import sys
from pathlib import Path

from mgmae_jax.data.encode import Encoding
from mgmae_jax.data.sources import read_source
from mgmae_jax.datasets.listed import own_split
from mgmae_jax.datasets.prepare import in_processes, prepare


def made(videos: Path, out: Path) -> None:
    splits = {"train": own_split(read_source(videos), str(videos))}
    prepare(splits, out, "videos", Encoding(32, 4), in_processes(1), lambda done, total: None)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed_at(videos: Path, out: Path, step: int) -> bool:
    """Runs in a process that is killed at that step; returns whether it was, and not finished before."""
    child = os.fork()
    if child == 0:
        replace, steps = os.replace, iter(range(1_000_000))

        def kill_here() -> None:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def replace_or_die(*args: str) -> None:
            kill_here()
            replace(*args)
            kill_here()

        os.replace = replace_or_die
        made(videos, out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(videos: Path, root: Path) -> None:
    made(videos, root / "whole")
    whole = content(root / "whole")
    step = 0
    while killed_at(videos, root / f"{step}", step):
        made(videos, root / f"{step}")
        print(step, content(root / f"{step}") == whole)
        step += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
