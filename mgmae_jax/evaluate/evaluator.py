"""Multi-view accuracy of a classifier: softmax of every view, the mean over a video's views, every video once."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Float

from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.evaluate.classes import match_classes, name_classes
from mgmae_jax.evaluate.predictions import PREDICTIONS_FILE, PredictionFile, Predictions, kept
from mgmae_jax.evaluate.report import Missing, Report, make_report
from mgmae_jax.evaluate.video_map import VideoMap, Views
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.progress import Progress

Logits = Callable[[Any, Array], Float[Array, "B C"]]
"""(params, clips uint8 [B, T, S, S, 3]) -> logits."""


class Evaluator:
    """Evaluates parameters on videos; compiled once, so it may be called every few epochs.

    Args:
      logits: the model.
      mesh: the devices.
      videos: the videos, to be matched with the classes by name; see `classes.match_classes`.
      views: the views of each video.
      classes: names of the model's classes.
      workers: number of reading processes.
      clips_per_device: see `VideoMap`.
      allow_missing: whether unreadable videos are left out and reported instead of being an error.
      source: where the videos were listed, for errors.
      unlabelled: whether the videos may have no labels; there are predictions then, but no accuracy.

    Raises:
      MgmaeError: the videos do not fit the classes, or a number is out of range.
    """

    def __init__(
        self,
        logits: Logits,
        mesh: Mesh,
        videos: VideoList,
        views: ViewSpec,
        classes: tuple[str, ...],
        *,
        workers: int,
        clips_per_device: int,
        allow_missing: bool = False,
        source: str = "the list of videos",
        unlabelled: bool = False,
    ) -> None:
        self.videos: VideoList = (
            name_classes(videos, classes, source) if unlabelled else match_classes(videos, classes, source)
        )
        self._allow_missing = allow_missing

        def best(params: Any, views: Views) -> tuple[Array, Array]:
            with jax.named_scope("evaluate"):
                scores = logits(params, self._map.flat(views)).astype(jnp.float32)
                shares = jax.nn.softmax(scores).reshape(*views.shape[:2], -1).mean(axis=1)
                return jax.lax.top_k(shares, kept(len(classes)))

        self._map = VideoMap(best, mesh, views, workers=workers, clips_per_device=clips_per_device)

    def __call__(self, params: Any, folder: Path | None = None, preempted: Callable[[], bool] | None = None) -> Report:
        """The report on parameters that are on the mesh; see `predict`."""
        return make_report(*self.predict(params, folder, preempted=preempted))

    def predict(
        self,
        params: Any,
        folder: Path | None = None,
        progress: bool = False,
        preempted: Callable[[], bool] | None = None,
    ) -> tuple[Predictions, list[Missing]]:
        """Finds the most probable classes of every video; to be called by every process.

        Args:
          params: the model's parameters, on the mesh.
          folder: the folder for predictions.csv, from which an interrupted call resumes; the caller must make sure that
            the parameters are the same.
          progress: whether to show progress on standard error.
          preempted: see `VideoMap`.

        Returns:
          The predictions, and the videos without one (none unless `allow_missing` is set). Both are the same in every
          process and on any number of devices.

        Raises:
          FileError: a video cannot be read, and `allow_missing` is not set.
          MgmaeError: the model's output is not finite.
          Preempted: see `VideoMap`; predictions.csv holds what is known.
        """
        predictions = Predictions.none(self.videos)
        file = PredictionFile(folder / PREDICTIONS_FILE, predictions) if folder and is_primary() else None
        if jax.process_count() > 1:  # the others may not see the file
            known = multihost_utils.broadcast_one_to_all((predictions.best, predictions.probabilities))
            predictions.fill(np.arange(len(self.videos)), *map(np.asarray, known))
        todo, total = predictions.todo, len(self.videos)
        shown = Progress(total, total - len(todo), unit="video") if progress and is_primary() else None
        missing: list[Missing] = []
        with contextlib.closing(shown) if shown else contextlib.nullcontext():
            videos = [self.videos.item(i) for i in todo]
            for places, (probabilities, best), unreadable in self._map(params, videos, preempted):
                if not np.isfinite(probabilities).all():
                    raise MgmaeError(
                        f"the model's output for {self.videos.paths[todo[places[0]]]} is not finite: its training "
                        "diverged, or model.dtype has too small a range."
                    )
                predictions.fill(todo[places], best, probabilities)
                if file is not None:
                    file.append(todo[places])
                missing += [Missing(self.videos.paths[todo[i]], reason) for i, reason in unreadable.items()]
                if missing and not self._allow_missing:
                    raise unreadable_error(missing)
                if shown is not None:
                    shown.advance(total - len(predictions.todo), _so_far(predictions))
        if file is not None:
            file.write_sorted()
        return predictions, missing


def _so_far(predictions: Predictions) -> str:
    known = predictions.best[:, 0] >= 0
    if predictions.labels is None or not known.any():
        return ""
    return f"top-1 {(predictions.best[:, 0] == predictions.labels)[known].mean():.1%}"


def unreadable_error(missing: Sequence[Missing], flag: str = "--config.data.allow_missing=true") -> FileError:
    """The error for unreadable videos when none may be missing; `flag` would allow it."""
    others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    reason = (
        f"{missing[0].reason}{others}. Every video counts: fix it, remove it from the list, or give {flag} to leave "
        "such videos out; they are then listed."
    )
    return FileError(missing[0].path, reason)


def checksum(params: Any) -> str:
    """A name for parameters, to tell them from others: 8 hex digits, the same on every mesh."""
    return f"{int(jax.device_get(_checksum(params))):08x}"


@jax.jit
def _checksum(params: Any) -> Array:
    total = jnp.uint32(0)
    for leaf in jax.tree.leaves(params):
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
        # Whole numbers, modulo 2**32: the sum is the same in any order. Every position has an odd factor of its own.
        place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
        for axis in reversed(range(leaf.ndim)):
            place += jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * jnp.uint32(stride)
            stride = stride * leaf.shape[axis] % 2**32
        total = total * jnp.uint32(31) + (bits * (place * jnp.uint32(2) + jnp.uint32(1))).sum(dtype=jnp.uint32)
    return total
