"""Worker processes that read."""

import multiprocessing
import os
import signal

import grain

from mgmae_jax.data.workers import WorkerBatches, with_workers


def test_a_signal_to_every_process_of_a_run_leaves_its_workers_reading():
    """As Slurm sends SIGTERM before the time limit: the run needs batches until it has saved."""
    examples = grain.MapDataset.range(12)
    with WorkerBatches(with_workers(examples, 2)) as batches:
        read = [next(batches), next(batches)]  # so that both have started
        workers = multiprocessing.active_children()
        for worker in workers:
            os.kill(worker.pid, signal.SIGTERM)
        assert read + list(batches) == list(range(12))
    assert len(workers) == 2
    assert not any(worker.is_alive() for worker in workers)
