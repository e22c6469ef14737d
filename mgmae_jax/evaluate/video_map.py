"""Applies a function to all views of many videos, each video once, over all devices and processes."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, UInt8

from mgmae_jax.data.decode import Readable
from mgmae_jax.data.eval_clips import reason_text, view_batches
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.placement import on_mesh
from mgmae_jax.runtime.mesh import batch_sharding, process_share, put_batch, replicated
from mgmae_jax.runtime.preemption import Preempted

Views = UInt8[Array, "B V T S S 3"]
_AHEAD = 1  # batches handed to the device before the results of one are waited for


class Mapped(NamedTuple):
    """The results of some videos, the same in every process.

    Attributes:
      places: int64 [n], the videos' places in the list.
      outputs: what the function returned, host arrays [n, ...].
      unreadable: place and reason of the videos that could not be read; they are not in `places`.
    """

    places: np.ndarray
    outputs: Any
    unreadable: dict[int, str]


class VideoMap:
    """A jitted function of videos, which may be called many times.

    A device always processes the same number of whole videos, so that a video's numbers do not depend on how many
    devices there are.

    Args:
      function: (params, views uint8 [B, V, T, S, S, 3]) -> a pytree of arrays [B, ...]; jitted here. A video's result
        must depend only on that video.
      mesh: the devices.
      views: the views of each video.
      workers: number of reading processes.
      clips_per_device: views that a device processes at once, rounded down to whole videos, but at least one.

    Raises:
      ConfigError: a number is out of range.
    """

    def __init__(
        self, function: Callable[[Any, Views], Any], mesh: Mesh, views: ViewSpec, *, workers: int, clips_per_device: int
    ) -> None:
        if clips_per_device < 1:
            raise ConfigError("eval.clips_per_device", clips_per_device, "1 or more")
        self._mesh, self._views, self._workers = mesh, views, workers
        self.batch_size = mesh.size * max(1, clips_per_device // views.count)

        def step(params: Any, batch: dict[str, Array]) -> tuple[Any, Array, Array]:
            # Places and reasons are passed along, so that every process gets them.
            return function(params, batch["views"]), batch["video"], batch["reason"]

        self._step = jax.jit(on_mesh(step, mesh), out_shardings=replicated(mesh))

    def __call__(
        self, params: Any, videos: Sequence[Readable], preempted: Callable[[], bool] | None = None
    ) -> Iterator[Mapped]:
        """Goes through the videos in order, batch by batch.

        Args:
          params: the function's parameters, on the mesh.
          videos: the same in every process.
          preempted: asked between batches; see `Preemption.reached`.

        Raises:
          Preempted: it said so; all batches that were worked on have been given.
        """
        pending: collections.deque[tuple[Any, Array, Array]] = collections.deque()
        reader = view_batches(
            videos,
            self._views,
            batch_size=self.batch_size,
            workers=self._workers,
            share=process_share(self._mesh),
        )
        with reader as batches:
            for batch in batches:
                pending.append(self._step(params, put_batch(batch, self._mesh)))
                if len(pending) > _AHEAD:
                    yield _mapped(*jax.device_get(pending.popleft()))
                if preempted is not None and preempted():
                    yield from (_mapped(*jax.device_get(one)) for one in pending)
                    raise Preempted
            while pending:
                yield _mapped(*jax.device_get(pending.popleft()))

    def flat(self, views: Views) -> UInt8[Array, "B*V T S S 3"]:
        """All views of all videos as one batch of clips, for use in the function."""
        clips = views.reshape(-1, *views.shape[2:])
        return jax.lax.with_sharding_constraint(clips, batch_sharding(self._mesh))


def _mapped(outputs: Any, videos: np.ndarray, reasons: np.ndarray) -> Mapped:
    texts = [reason_text(reason) for reason in reasons]
    read = np.array([video >= 0 and not text for video, text in zip(videos, texts, strict=True)])
    unreadable = {int(video): text for video, text in zip(videos, texts, strict=True) if text}
    return Mapped(videos[read].astype(np.int64), jax.tree.map(lambda array: array[read], outputs), unreadable)
