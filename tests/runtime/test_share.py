import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.share import Share


def shares(order: list[int]) -> list[Share]:
    """The share of every process, given the process of each device in the order of the mesh."""
    held = {process: tuple(i for i, other in enumerate(order) if other == process) for process in sorted(set(order))}
    return [Share(slots, len(order)) for slots in held.values()]


orders = st.integers(1, 4).flatmap(lambda each: st.permutations([process for process in range(4) for _ in range(each)]))


@given(order=orders, each=st.integers(1, 4), views=st.integers(1, 4))
def test_shares_of_any_order_of_devices_make_the_batch(order, each, views):
    batch_size = each * len(order)
    parts = [share.examples(batch_size, views) for share in shares(order)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(batch_size))
    for share, examples in zip(shares(order), parts, strict=True):
        rows = (examples[:, None] * views + np.arange(views)).ravel()
        np.testing.assert_array_equal(rows, share.rows(batch_size * views))


def test_the_only_process_reads_everything():
    np.testing.assert_array_equal(Share().examples(5, 3), range(5))


def test_neighbouring_devices_may_share_the_views_of_a_video():
    one, other = shares([0, 0, 1, 1])
    assert (one.examples(2, 2).tolist(), other.examples(2, 2).tolist()) == ([0], [1])


def test_devices_of_different_processes_may_not():
    one, _ = shares([0, 1, 0, 1])
    with pytest.raises(ConfigError, match=r"train.batch_size=2: give a multiple of .* which is 4: a process"):
        one.examples(2, 2)


@pytest.mark.parametrize(("batch_size", "views"), [(0, 1), (3, 1), (3, 2), (-4, 1)])
def test_a_batch_that_does_not_divide(batch_size, views):
    with pytest.raises(ConfigError, match=rf"train.batch_size={batch_size}: give a multiple of .* devices, which is 4"):
        Share((0, 1), 4).examples(batch_size, views)
