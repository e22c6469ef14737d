"""Motion shapes: a procedural video dataset in which the label is the motion and nothing else.

Textured sprites move over a textured background under a drifting camera. Sixteen classes of motion are balanced by the
video's index, and appearance is drawn blind to them: at one frame near the middle, the pivot, a video would look the
same whatever its class. It needs no download and has no licence, and its optical flow is known exactly.

    from mgmae_jax.datasets import motion_shapes
    index = motion_shapes.prepare(motion_shapes.default_cache(), videos=96, seed=0)   # real MP4 files and their list
    video = motion_shapes.render(seed=0, index=3, frames=40)                          # or arrays
    flow = motion_shapes.true_flow(seed=0, index=3, frames=40)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.datasets.motion_shapes_motion import CLASSES
from mgmae_jax.datasets.motion_shapes_scene import draw, sample_scene, scene_flow
from mgmae_jax.errors import FileError, MgmaeError

__all__ = ["CLASSES", "RenderedVideo", "default_cache", "prepare", "render", "true_flow"]

# Part of the cache's key: raise it with every change to what the videos show.
_LOOK = 1


@dataclasses.dataclass(frozen=True)
class RenderedVideo:
    """A video and what is known about it.

    Args:
      frames: uint8 `[T, H, W, 3]` RGB.
      label: index into `CLASSES`.
      pivot: the frame that looks the same whatever the label.
      fps: frames per second, 12 to 24.
    """

    frames: np.ndarray
    label: int
    pivot: int
    fps: int


def render(
    seed: int, index: int, *, size: tuple[int, int] = (128, 128), frames: int = 40, label: int | None = None
) -> RenderedVideo:
    """Draws one video, a pure function of its arguments.

    Args:
      seed: of the dataset, 0 or more.
      index: of the video, 0 or more.
      size: height and width in pixels, 32 or more.
      frames: T, 8 or more; the motion always fills the whole video, at 1 to 6 pixels a frame by default.
      label: index into `CLASSES`; by default index modulo their number, which balances the classes.

    Raises:
      MgmaeError: an argument is out of range.
    """
    scene = sample_scene(seed, index, size=size, frames=frames, label=label)
    return RenderedVideo(draw(scene), scene.label, scene.pivot, scene.fps)


def true_flow(
    seed: int,
    index: int,
    *,
    size: tuple[int, int] = (128, 128),
    frames: int = 40,
    label: int | None = None,
    backward: bool = False,
) -> np.ndarray:
    """The exact optical flow of the video that `render` draws for the same arguments.

    Args:
      seed: as for `render`, and so are index, size, frames and label.
      index: of the video.
      size: height and width in pixels.
      frames: T.
      label: index into `CLASSES`.
      backward: False gives the flow from each frame to the next, True from each frame but the first to the one before.

    Returns:
      float32 `[T-1, H, W, 2]`, x then y in pixels, defined everywhere, also where a pixel is about to be hidden. Entry
      i starts in frame i, or in frame i + 1 if backward.

    Raises:
      MgmaeError: as for `render`.
    """
    return scene_flow(sample_scene(seed, index, size=size, frames=frames, label=label), backward=backward)


def default_cache() -> Path:
    """Where videos are kept: `$MGMAE_CACHE/motion_shapes`, or `~/.cache/mgmae_jax/motion_shapes`."""
    root = os.environ.get("MGMAE_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "mgmae_jax") / "motion_shapes"


def prepare(
    cache: Path,
    *,
    videos: int,
    seed: int,
    split: Literal["train", "test"] = "train",
    size: tuple[int, int] = (128, 128),
    frames: int = 40,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes sure that a split lies in the cache as MP4 files, and renders the ones that are missing.

    Each set of arguments has a folder of its own, `cache/HASH/SPLIT/`, holding `CLASS/000012.mp4`, `index.jsonl` and
    `manifest.json`. Files appear whole or not at all, so a stopped call is completed by the next one and several
    processes may call at once.

    Args:
      cache: folder for all such datasets, made if absent.
      videos: how many, 1 or more; video i is of class i modulo the number of classes.
      seed: 0 or more; the splits of a seed share no video.
      split: "train" or "test".
      size: height and width in pixels, even and 32 or more.
      frames: of each video, 8 or more.
      on_progress: called with (videos done, videos in total), first with those found.

    Returns:
      The path of `index.jsonl`: a line `{"path": "CLASS/000012.mp4", "label": "CLASS"}` for each video, by index.

    Raises:
      FileError: the folder cannot be written or is full.
      MgmaeError: an argument is out of range.
    """
    if videos < 1 or seed < 0 or split not in ("train", "test") or any(side % 2 for side in size):
        raise MgmaeError(
            f"motion shapes: videos={videos}, seed={seed}, split={split!r}, size={tuple(size)}: give at least 1 video, "
            'a seed of at least 0, the split "train" or "test", and an even height and width.'
        )
    manifest = {"videos": videos, "seed": seed, "size": list(size), "frames": frames, "split": split, "look": _LOOK}
    digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()[:12]
    folder = cache.expanduser() / digest / split
    labels = [CLASSES[i % len(CLASSES)] for i in range(videos)]
    paths = [f"{name}/{i:06d}.mp4" for i, name in enumerate(labels)]
    lines = "".join(json.dumps({"path": path, "label": name}) + "\n" for path, name in zip(paths, labels, strict=True))
    try:
        done = sum((folder / path).exists() for path in paths)
        if on_progress:
            on_progress(done, videos)
        for i, path in enumerate(paths):
            if (folder / path).exists():
                continue
            video = render(2 * seed + (split == "test"), i, size=size, frames=frames)
            _write_whole(folder / path, encode_mp4(video.frames, video.fps))
            done = min(done + 1, videos)
            if on_progress:
                on_progress(done, videos)
        for name, content in (("index.jsonl", lines), ("manifest.json", json.dumps(manifest, indent=2) + "\n")):
            if not (folder / name).exists():
                _write_whole(folder / name, content.encode())
    except OSError as error:
        raise FileError(
            cache,
            f"cannot keep the motion-shapes videos ({error.strerror or error}); free space there, or set MGMAE_CACHE "
            "to a writable folder.",
        ) from error
    return folder / "index.jsonl"


def _write_whole(path: Path, content: bytes) -> None:
    """Writes beside the path and renames, so that no reader and no later call meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
