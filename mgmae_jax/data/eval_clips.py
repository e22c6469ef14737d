"""Batches of whole videos with all their test views, each video once. Uses Grain's workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import grain
import numpy as np

from mgmae_jax.data.decode import Readable
from mgmae_jax.data.views import ViewSpec, read_views
from mgmae_jax.data.workers import WorkerBatches, with_workers
from mgmae_jax.errors import VideoError
from mgmae_jax.runtime.share import Share

REASON_BYTES = 240  # the reason why a video cannot be read, of a fixed size so that it can travel with the batch


def view_batches(
    videos: Sequence[Readable],
    views: ViewSpec,
    *,
    batch_size: int,
    workers: int,
    share: Share,
) -> WorkerBatches:
    """Reads every video once, in order, in as many batches as it takes.

    Batch b starts at video b * batch_size, and each process reads its share of it. The last batch is padded with empty
    places. A video is decoded once for all its views.

    Args:
      videos: the videos, in the order wanted.
      views: which views.
      batch_size: videos in a batch over all processes, a multiple of the number of devices.
      workers: processes that read; 0 reads in threads of this one. Has no influence on the batches.
      share: which videos of each batch this process reads.

    Returns:
      An iterator over dicts; close it, or use it as a context manager. With the n videos of this process:
      "views" uint8 [n, V, T, S, S, 3], see `views.read_views`; "video" int32 [n], its place in `videos`, or -1 if the
      place in the batch is empty; "reason" uint8 [n, 240], why it cannot be read, as zero-terminated UTF-8: all zero
      if it can. The views of an unreadable video are black.
    """
    places = tuple(share.examples(batch_size).tolist())
    local = len(places)
    batches = -(-len(videos) // batch_size)
    examples = _Views(tuple(videos), views, batch_size, places)
    dataset = with_workers(grain.MapDataset.range(batches * local).map(examples), workers)
    return WorkerBatches(dataset.batch(local, drop_remainder=True, batch_fn=_stacked))


def reason_text(reason: np.ndarray) -> str:
    """The reason of a batch as text; "" if the video could be read."""
    return reason.tobytes().rstrip(b"\0").decode(errors="ignore")


@dataclasses.dataclass(frozen=True)
class _Views:
    """Place number n of this process, counted through all batches; travels to the workers."""

    videos: tuple[Readable, ...]
    views: ViewSpec
    batch_size: int
    places: tuple[int, ...]

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        batch, i = divmod(number, len(self.places))
        video = batch * self.batch_size + self.places[i]
        clip = self.views.clip
        reason = np.zeros(REASON_BYTES, np.uint8)
        pixels = None
        if video >= len(self.videos):
            video = -1
        else:
            try:
                pixels = read_views(self.videos[video], self.views)
            except VideoError as error:
                text = error.reason.encode(errors="replace")[:REASON_BYTES]
                reason[: len(text)] = np.frombuffer(text, np.uint8)
        if pixels is None:
            pixels = np.zeros((self.views.count, clip.frames, clip.size, clip.size, 3), np.uint8)
        return {"views": pixels, "video": np.array(video, np.int32), "reason": reason}


def _stacked(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}
