"""Motion shapes: a procedural video dataset in which the label is the motion and nothing else.

Three large sprites move over a cloudy background under a drifting camera. Colours change slowly across each, so that a
hidden part can be guessed from visible ones. Sixteen classes of motion are balanced by the video's index, and
appearance is drawn blind to them: at one frame near the middle, the pivot, a video would look the same whatever its
class. It needs no download and has no licence, and its optical flow is known exactly.

    from mgmae_jax.datasets import motion_shapes
    index = motion_shapes.prepare(motion_shapes.default_cache(), videos=96, seed=0)   # real MP4 files and their list
    video = motion_shapes.render(seed=0, index=3, frames=40)                          # or arrays
    flow = motion_shapes.true_flow(seed=0, index=3, frames=40)
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.flow_places import flow_path
from mgmae_jax.data.pool import mapper
from mgmae_jax.data.stored_flow import VideoFacts, cell_grid, file_digest, to_cells, write_flow
from mgmae_jax.datasets.motion_shapes.motion import CLASSES
from mgmae_jax.datasets.motion_shapes.scene import Scene, draw, sample_scene, scene_flow
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.files import whole_file, write_text
from mgmae_jax.runtime.paths import cache_folder, local_path

__all__ = ["CLASSES", "RenderedVideo", "default_cache", "prepare", "render", "true_flow"]

# Part of the cache's key: raise it with every change to what the videos show.
_REMEDY = "free space there, or set MGMAE_CACHE to a folder that you can write to"
_LOOK = 2
# This many videos are drawn in less time than processes take to start.
_FEW = 64
_FLOW_CELL = 4  # pixels to a side of the cells that true flow is kept for


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
      seed: the dataset's seed, 0 or more.
      index: the video's index, 0 or more.
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
      index: the video's index.
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
    """Where videos are kept: `$MGMAE_CACHE/motion_shapes`, by default `~/.cache/mgmae_jax/motion_shapes`.

    Raises:
      MgmaeError: see `cache_folder`.
    """
    return cache_folder("motion_shapes")


def prepare(
    cache: Path,
    *,
    videos: int,
    seed: int,
    split: Literal["train", "test"] = "train",
    size: tuple[int, int] = (128, 128),
    frames: int = 40,
    still: bool = False,
    flow: bool = False,
    processes: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes sure that a split is in the cache as MP4 files, and renders the ones that are missing.

    Each set of arguments has a folder of its own, `cache/HASH/SPLIT/`, holding `CLASS/000012.mp4`, `index.jsonl` and
    `manifest.json`. Files appear whole or not at all, so the next call completes an interrupted one and several
    processes may call at once.

    Args:
      cache: folder for all such datasets, made if absent.
      videos: how many, 1 or more; video i is of class i modulo the number of classes.
      seed: 0 or more; the splits of a seed share no video.
      split: "train" or "test".
      size: height and width in pixels, even and 32 or more.
      frames: number of frames of each video, 8 or more.
      still: videos of the same appearance in which nothing moves, to compare with; their labels mean nothing.
      flow: also keep each video's true flow beside it, as `data.stored_flow` reads it.
      processes: number of drawing processes, 1 or more; a small number of videos is always drawn in this one. New ones
        import the main module again, so a script that uses them must call under `if __name__ == "__main__":`.
      on_progress: called with (videos done, videos in total), first with those already there.

    Returns:
      The path of `index.jsonl`: a line `{"path": "CLASS/000012.mp4", "label": "CLASS"}` for each video, by index.

    Raises:
      FileError: the folder cannot be written or is full.
      MgmaeError: an argument is out of range, or the processes could not start or were killed.
    """
    if videos < 1 or processes < 1 or seed < 0 or split not in ("train", "test") or any(side % 2 for side in size):
        raise MgmaeError(
            f"motion shapes: videos={videos}, processes={processes}, seed={seed}, split={split!r}, size={tuple(size)}: "
            'give at least 1 video and 1 process, a seed of at least 0, the split "train" or "test", and an even '
            "height and width."
        )
    manifest = {"videos": videos, "seed": seed, "size": list(size), "frames": frames, "split": split, "look": _LOOK}
    manifest |= {"still": True} if still else {}  # as before there were such: the keys of caches stay
    digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()[:12]
    folder = local_path(str(cache), "cache") / digest / split
    paths = [_video_path(i) for i in range(videos)]
    lines = "".join(json.dumps({"path": path, "label": path.split("/")[0]}) + "\n" for path in paths)
    try:
        missing = [i for i, path in enumerate(paths) if not _is_kept(folder / path, flow)]
        if on_progress:
            on_progress(videos - len(missing), videos)
        scene = functools.partial(
            sample_scene, 2 * seed + (split == "test"), size=(size[0], size[1]), frames=frames, still=still
        )
        keep = functools.partial(_keep_video, folder, scene, flow)

        def named(index: int) -> list[str]:
            return [paths[index]]

        with mapper(processes if len(missing) > _FEW else 1, "motion shapes", named) as apply:
            for done, _ in enumerate(apply(keep, missing), start=videos - len(missing) + 1):
                if on_progress:
                    on_progress(done, videos)
        for name, content in (("index.jsonl", lines), ("manifest.json", json.dumps(manifest, indent=2) + "\n")):
            if not (folder / name).exists():
                write_text(folder / name, content, _REMEDY)
    except OSError as error:
        raise FileError(
            cache,
            f"cannot keep the motion-shapes videos ({error.strerror or error}): {_REMEDY}",
        ) from error
    return folder / "index.jsonl"


def _video_path(index: int) -> str:
    """A video's path in its split's folder: `CLASS/000012.mp4`."""
    return f"{CLASSES[index % len(CLASSES)]}/{index:06d}.mp4"


def _is_kept(path: Path, flow: bool) -> bool:
    """Whether a video is there, with its flow if requested."""
    return path.exists() and (not flow or flow_path(path).exists())


def _keep_video(folder: Path, sample: Callable[[int], Scene], flow: bool, index: int) -> None:
    """Draws one video into a split's folder, with its flow if wanted, unless another call has done so meanwhile."""
    path = folder / _video_path(index)
    scene = sample(index)
    frames, size = scene.transforms.shape[1], scene.size
    if not path.exists():
        with whole_file(path, _REMEDY) as partial:
            partial.write_bytes(encode_mp4(draw(scene), scene.fps))
    if not _is_kept(path, flow):
        cells = (-(-size[0] // _FLOW_CELL), -(-size[1] // _FLOW_CELL))
        both = [to_cells(scene_flow(scene, backward=backward), *cells) for backward in (False, True)]
        facts = VideoFacts(frames, *size, file_digest(path))
        write_flow(flow_path(path), np.stack(both, 1), cell_grid(*cells), facts, "true flow")
