import multiprocessing
import os
import re

import pytest

from mgmae_jax.data.cores import usable_cores
from mgmae_jax.data.pool import mapper
from mgmae_jax.errors import MgmaeError


def doubled(number: int) -> int:
    """Ends its process at 3."""
    if number == 3:
        os._exit(9)
    return 2 * number


def names(number: int) -> list[str]:
    return [f"{number}{letter}.mp4" for letter in "abc"[: number + 1]]


def test_results_come_in_order():
    before = multiprocessing.active_children()
    with mapper(2, "doubling", names) as apply:
        assert list(apply(doubled, [2, 0, 1])) == [4, 0, 2]
    assert set(multiprocessing.active_children()) <= set(before)


def test_a_process_that_dies_names_the_videos_that_were_not_done():
    done = []
    told = re.escape("doubling: 2 processes did not start or were killed (out of memory?) at ")
    with (
        pytest.raises(
            MgmaeError, match=f"^{told}.*3a.mp4 to 3c.mp4 \\(3 videos\\).*: run with one process, or without"
        ),
        mapper(2, "doubling", names) as apply,
    ):
        done.extend(apply(doubled, [0, 1, 3, 2]))
    assert done == [0, 2][: len(done)]


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 64
