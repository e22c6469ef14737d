import itertools

import numpy as np
import pytest

from mgmae_jax.datasets.flow_pairs.banks import make_banks
from mgmae_jax.datasets.flow_pairs.batches import synthetic_batches
from mgmae_jax.datasets.flow_pairs.pair import draw_pair
from mgmae_jax.datasets.flow_pairs.scene import Scene, sample_scene
from mgmae_jax.runtime.share import Share


def take(count, first=0, **options):
    options = {"batch_size": 4, "size": 64, "threads": 2, "drawn": False} | options
    with synthetic_batches(0, first, **options) as batches:
        return list(itertools.islice(batches, count))


def test_batches_hold_the_pairs_in_order():
    for number, batch in enumerate(take(5, first=8)):
        for place in range(4):
            wanted = sample_scene(0, 8 + 4 * number + place, 64)
            np.testing.assert_array_equal(batch["texture_map"][place], wanted.texture_map)
    assert set(batch) == set(Scene._fields)


@pytest.mark.parametrize("threads", [1, 3])
def test_drawn_pairs_do_not_depend_on_the_threads(threads: int):
    (batch,) = take(1, first=12, threads=threads, drawn=True)
    pair = draw_pair(make_banks(0), sample_scene(0, 14, 64), 64)
    np.testing.assert_array_equal(batch["image2"][2], pair.image2)
    np.testing.assert_array_equal(batch["flow"][2], pair.flow)
    assert (batch["image1"].dtype, batch["flow"].dtype) == (np.uint8, np.float32)


def test_processes_share_each_batch():
    whole = take(3)
    parts = [take(3, share=Share((index,), 2)) for index in range(2)]
    for number in range(3):
        together = np.concatenate([part[number]["motion"] for part in parts])
        np.testing.assert_array_equal(together, whole[number]["motion"])


def test_what_a_thread_raises_reaches_the_trainer():
    with (
        pytest.raises(ValueError, match="non-negative"),
        synthetic_batches(-1, 0, batch_size=2, size=64, threads=1, drawn=False) as batches,
    ):
        next(batches)
