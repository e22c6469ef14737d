"""Reading in Grain's worker processes. They are spawned, and import the module of what they run again."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import TracebackType

import cv2
import grain
import numpy as np
from absl import flags

from mgmae_jax.errors import ConfigError, MgmaeError


def with_workers(examples: grain.MapDataset, workers: int) -> grain.IterDataset:
    """Reads examples in worker processes, in their order.

    Batch after this, not before: worker w of W takes every W-th element, which has to be one example if the batches are
    not to depend on W. This also keeps shared memory down to a few examples.

    Args:
      examples: what to read.
      workers: processes; 0 reads in threads of this one. It does not affect the examples.

    Raises:
      ConfigError: `workers` is negative.
    """
    if workers < 0:
        raise ConfigError("data.workers", workers, "0 or more")
    if not workers:
        cv2.setNumThreads(0)
    elif not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads flags when it starts workers; a notebook has not parsed them.
    threads = 1 if workers else 2
    return examples.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    ).mp_prefetch(grain.MultiprocessingOptions(workers, per_worker_buffer_size=2), worker_init_fn=_start_worker)


class WorkerBatches:
    """An iterator over host batches, read ahead; close it, or use it as a context manager.

    Args:
      dataset: the batches, each a dict of arrays.
    """

    def __init__(self, dataset: grain.IterDataset) -> None:
        iterator = iter(dataset)
        # Asking for the state makes Grain create the iterators of all its workers, so that start and close reach
        # every one of them, not only those that were waited for so far.
        iterator.get_state()
        iterator.start_prefetch()
        self._iterator: grain.DatasetIterator | None = grain.experimental.ThreadPrefetchDatasetIterator(
            iterator, prefetch_buffer_size=1
        )
        self._iterator.start_prefetch()

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._iterator is None:
            raise StopIteration
        try:
            return next(self._iterator)
        except RuntimeError as error:
            raise MgmaeError(
                f"reading videos stopped: {error} A worker that dies has usually run out of memory or of "
                "shared memory (/dev/shm): lower config.data.workers, or give the container more (--shm-size)."
            ) from error

    def close(self) -> None:
        """Ends the worker processes and threads; no more batches come."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None  # If it were kept until the interpreter exits, Grain's finaliser would fail noisily.
            gc.collect()  # At the end, cycles in Grain hold the last examples, and with them shared memory.

    def __enter__(self) -> WorkerBatches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _start_worker(index: int, count: int) -> None:
    cv2.setNumThreads(0)
    # Ctrl-C reaches every process of the terminal, and Slurm's SIGTERM every process of the step; the main one needs
    # batches until it has saved, and then ends its workers itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Ends this process when the one that started it has ended, however that was."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    # A killed main process ends no workers, and one that waits for room in its queue would wait for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
