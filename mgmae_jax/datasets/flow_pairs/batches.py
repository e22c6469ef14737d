"""Batches of synthetic pairs for a trainer, prepared ahead in threads."""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mgmae_jax.datasets.flow_pairs.banks import make_banks
from mgmae_jax.datasets.flow_pairs.pair import draw_pair
from mgmae_jax.datasets.flow_pairs.scene import sample_scene
from mgmae_jax.runtime.share import Share

_BATCHES_AHEAD = 3
_WHOLE = Share()


@contextlib.contextmanager
def synthetic_batches(
    seed: int,
    first: int,
    *,
    batch_size: int,
    size: int,
    threads: int,
    drawn: bool,
    share: Share = _WHOLE,
) -> Iterator[Iterator[dict[str, np.ndarray]]]:
    """Opens this process's endless batches of pairs `first`, `first + 1`, ... of a seed.

    Args:
      seed: the dataset's seed.
      first: index of the first pair of the first batch, over all processes.
      batch_size: pairs per step over all processes, a multiple of the number of devices.
      size: side of the frames in pixels.
      threads: number of threads that prepare pairs, 1 or more.
      drawn: whether to draw the pairs here. Otherwise a batch holds scenes, to be drawn on the device.
      share: which pairs of each batch this process prepares; all by default.

    Yields:
      An iterator of dicts of arrays with a leading axis for this process's pairs: "image1" and "image2", uint8
      `[B, size, size, 3]`, and "flow", float32 `[B, size, size, 2]`; or the fields of `Scene`.
    """
    places = share.examples(batch_size).tolist()
    local = len(places)
    banks = make_banks(seed) if drawn else None

    def example(number: int) -> dict[str, np.ndarray]:
        step, place = divmod(number, local)
        scene = sample_scene(seed, first + step * batch_size + places[place], size)
        if banks is None:
            return scene._asdict()
        pair = draw_pair(banks, scene, size, occlusion=False)
        return {"image1": pair.image1, "image2": pair.image2, "flow": pair.flow}

    def batches(pool: ThreadPoolExecutor) -> Iterator[dict[str, np.ndarray]]:
        ahead = collections.deque(pool.submit(example, number) for number in range(_BATCHES_AHEAD * local))
        for number in itertools.count(len(ahead)):
            if number % local == 0:
                examples = [ahead.popleft().result() for _ in range(local)]
                yield {name: np.stack([example[name] for example in examples]) for name in examples[0]}
            ahead.append(pool.submit(example, number))

    pool = ThreadPoolExecutor(threads, thread_name_prefix="synthetic")
    try:
        yield batches(pool)
    finally:
        pool.shutdown(cancel_futures=True)
