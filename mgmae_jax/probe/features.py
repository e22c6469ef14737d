"""A frozen encoder's features of videos, extracted once and stored in files."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array
from safetensors import SafetensorError
from safetensors.numpy import save_file

from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.evaluate.evaluator import unreadable_error
from mgmae_jax.evaluate.report import Missing
from mgmae_jax.evaluate.video_map import VideoMap, Views
from mgmae_jax.probe.encoder import FrozenEncoder, What
from mgmae_jax.runtime.distributed import barrier, from_primary, is_primary
from mgmae_jax.runtime.files import REMEDY, whole_file, write_json
from mgmae_jax.runtime.preemption import stoppable
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.runtime.session import check_same_in_all

_STORED: Mapping[What, np.dtype] = {
    "pooled": np.dtype(np.float32),
    "tubelets": np.dtype(np.float32),
    "regions": np.dtype(np.float32),
    "tokens": np.dtype(np.float16),
}

Videos = TypeVar("Videos", bound=VideoList)


@dataclasses.dataclass(frozen=True)
class VideoFeatures(Generic[Videos]):
    """The features of all views of some videos.

    Attributes:
      features: pooled [n, V, D], tubelets or regions [n, V, ...] in float32, or tokens float16 [n, V, N, D]; a file
        that is read on demand.
      videos: the n that could be read, in the order of the list.
      places: int64 [n], their places in the list.
      missing: the videos that could not be read.
    """

    features: np.ndarray
    videos: Videos
    places: np.ndarray
    missing: tuple[Missing, ...]


class Flags(NamedTuple):
    """The flags of a command that extracts features: for the folder of its cache, and for leaving videos out."""

    cache: str
    missing: str


_FLAGS = Flags("--features", "--config.data.allow_missing=true")


def extract(
    encoder: FrozenEncoder,
    videos: Videos,
    views: ViewSpec,
    what: What,
    mesh: Mesh,
    *,
    cache: Path,
    workers: int,
    clips_per_device: int,
    allow_missing: bool,
    flags: Flags = _FLAGS,
) -> VideoFeatures[Videos]:
    """The features of videos; to be called by every process.

    They are stored in the cache under the encoder's parameters, the videos, the views and `what`: a second call takes
    them from there, and an interrupted one resumes.

    Args:
      encoder: the frozen encoder.
      videos: the videos, in the order wanted.
      views: the views of each video.
      what: "pooled", "tubelets", "regions" or "tokens"; see `FrozenEncoder.function`.
      mesh: the devices.
      cache: a folder that every process sees; created if absent.
      workers: number of reading processes.
      clips_per_device: see `VideoMap`.
      allow_missing: whether unreadable videos are left out instead of being an error.
      flags: what errors tell the user to change.

    Raises:
      MgmaeError: the processes have different videos, or a feature is not finite.
      StoppedError: this process, or another one of the run, received SIGTERM; the same call resumes.
      FileError: a video cannot be read and none may be missing; or the cache cannot be written or has no room.
    """
    check_same_in_all({"videos": videos.digest()})
    identity = {
        "parameters": encoder.about["parameters"],
        "dtype": str(jnp.dtype(encoder.model.dtype)),
        "positions": encoder.model.positions,  # not parameters, so the checksum does not cover them
        "paths": [os.path.abspath(path) for path in videos.paths],
        "views": dataclasses.asdict(views),
        "what": what,
    }
    # The first process's, as the videos may be in another folder elsewhere.
    name = from_primary(f"{what}_{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}")
    shape = (len(videos), views.count, *encoder.shape(what))
    barrier(f"{name} opened")
    kept = _Kept(cache / f"{name}.npy", shape, _STORED[what], flags.cache)
    if kept.done < len(videos):
        apply = encoder.function(what)

        def of_views(params: object, views: Views) -> Array:
            features = apply(params, mapped.flat(views))
            return features.reshape(*views.shape[:2], *features.shape[1:]).astype(_STORED[what])

        mapped = VideoMap(of_views, mesh, views, workers=workers, clips_per_device=clips_per_device)
        shown = Progress(len(videos), kept.done, unit="video") if is_primary() else None
        first = kept.done
        progress = contextlib.closing(shown) if shown else contextlib.nullcontext()
        with stoppable("the features") as preempted, progress:
            left = [videos.item(i) for i in range(first, len(videos))]
            for places, features, unreadable in mapped(encoder.params, left, preempted):
                told = [Missing(videos.paths[first + place], reason) for place, reason in unreadable.items()]
                if told and not allow_missing:
                    raise unreadable_error(told, flags.missing)
                if not np.isfinite(features).all():
                    raise MgmaeError(f"the {what} features of {videos.paths[first + places[0]]} are not finite.")
                kept.add(first + places, features, {first + place: reason for place, reason in unreadable.items()})
                if shown is not None:
                    shown.advance(kept.done, what)
    barrier(f"{name} written")
    found = _readable(kept, videos, allow_missing, flags)
    barrier(f"{name} read")  # a caller may remove the cache
    return found


class _Kept:
    """An array in a .npy file that is filled row by row, and a .json file with its progress and what is missing.

    The first process writes; the others track in memory what it has written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, flag: str) -> None:
        self._path, self._index, self._flag = path, path.with_suffix(".json"), flag
        try:
            # The first process's view of the file: a network file system may show others an older one.
            begun = json.loads(self._index.read_text(encoding="utf-8")) if is_primary() and self._index.exists() else {}
            done, missing = from_primary([begun.get("done", 0), begun.get("missing", {})])
            self.done, self.missing = int(done), {int(row): str(why) for row, why in missing.items()}
            self._array: np.memmap | None = None
            if is_primary() and self.done < shape[0]:
                self._array = self._open(shape, dtype)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise FileError(self._index, f"cannot be used ({error}): remove it, or give another {flag}") from error

    def _open(self, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
        if self.done:
            begun: np.memmap = np.load(self._path, mmap_mode="r+", allow_pickle=False)
            return begun
        self._path.parent.mkdir(parents=True, exist_ok=True)
        size, free = int(np.prod(shape)) * dtype.itemsize, shutil.disk_usage(self._path.parent).free
        if size > free:
            reason = (
                f"the features take {size / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free there: give a "
                f"{self._flag} on a larger disk, fewer videos or views, or pooled features"
            )
            raise FileError(self._path, reason)
        return np.lib.format.open_memmap(self._path, mode="w+", dtype=dtype, shape=shape)

    def add(self, rows: np.ndarray, features: np.ndarray, missing: dict[int, str]) -> None:
        """Writes the features of the next rows, except for missing ones."""
        self.done += len(rows) + len(missing)
        self.missing |= missing
        if self._array is None:
            return
        try:
            self._array[rows] = features
            self._array.flush()
            write_json(self._index, {"done": self.done, "missing": self.missing})
        except OSError as error:
            raise FileError(self._path, f"cannot be written ({error.strerror or error})") from error

    def read(self) -> np.ndarray:
        """All rows, including those of missing videos."""
        try:
            return np.load(self._path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise FileError(self._path, f"cannot be read ({error}): remove it and {self._index}") from error


def _readable(kept: _Kept, videos: Videos, allow_missing: bool, flags: Flags) -> VideoFeatures[Videos]:
    told = tuple(Missing(videos.paths[row], reason) for row, reason in sorted(kept.missing.items()))
    if not told:
        return VideoFeatures(kept.read(), videos, np.arange(len(videos)), ())
    if not allow_missing:  # they were allowed when the features were extracted
        raise unreadable_error(told, flags.missing)
    rows = [row for row in range(len(videos)) if row not in kept.missing]
    if not rows:
        raise MgmaeError(f"none of {len(videos)} videos can be read; {told[0].path}: {told[0].reason}.")
    return VideoFeatures(kept.read()[rows], videos.take(rows), np.array(rows), told)


ENDINGS = (".npz", ".safetensors")


def check_ending(path: Path) -> None:
    """Checks that features can be written under that name.

    Raises:
      FileError: it does not end in .npz or .safetensors.
    """
    if path.suffix.lower() not in ENDINGS:
        raise FileError(path, "features are written as .npz or .safetensors; give --out one of these extensions")


def write_features(
    path: Path, found: VideoFeatures[VideoList], grid: tuple[int, int, int], about: Mapping[str, Any]
) -> tuple[int, ...]:
    """Writes features, whole or not at all.

    The file holds "features": pooled float32 [n, V, D], or tokens float16 [n, V, t, h, w, D]; for labelled videos
    "labels" int64 [n]. An .npz file also has "paths" and, if known, "class_names", arrays of text, and "about", JSON as
    text; a .safetensors file has these three in its metadata, as JSON.

    Args:
      path: a .npz or .safetensors file.
      found: the features to write.
      grid: numbers of a clip's tokens in time, down and across.
      about: what is known about the encoder.

    Returns:
      The shape of the features.

    Raises:
      FileError: the extension is a different one, or the file cannot be written.
    """
    check_ending(path)
    features = found.features
    if features.ndim > 3:
        features = features.reshape(*features.shape[:2], *grid, features.shape[-1])
    arrays = {"features": features}
    if found.videos.labels is not None:
        arrays["labels"] = np.asarray(found.videos.labels, np.int64)
    texts: dict[str, Any] = {"paths": list(found.videos.paths), "about": dict(about)}
    if found.videos.class_names is not None:
        texts["class_names"] = list(found.videos.class_names)
    with whole_file(path) as partial:
        if path.suffix.lower() == ".npz":
            about_text = np.array(json.dumps(texts.pop("about")))
            members: dict[str, Any] = arrays | {name: np.array(values) for name, values in texts.items()}
            with partial.open("wb") as file:
                np.savez(file, **members, about=about_text)
        else:
            whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            try:
                save_file(whole, partial, {name: json.dumps(value) for name, value in texts.items()})
            except SafetensorError as error:  # in the place of an OSError
                raise FileError(path, f"cannot be written ({error}): {REMEDY}") from error
    return features.shape
