import multiprocessing
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data import eval_clips as eval_views
from mgmae_jax.data.eval_clips import reason_text, view_batches
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.sources import read_source
from mgmae_jax.data.views import ViewSpec, read_views
from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.share import Share

WHOLE = Share()
VIEWS = ViewSpec(ClipSpec(4, 2, 32), "uniform", clips=2, crops=3)


def read(paths, *, batch_size=2, workers=0, share=WHOLE, views=VIEWS):
    options = {"batch_size": batch_size, "workers": workers}
    with view_batches(paths, views, **options, share=share) as batches:
        return list(batches)


@pytest.fixture(scope="module")
def paths(video_folder):
    return read_source(video_folder).paths


@pytest.mark.parametrize("workers", [0, 2])
def test_every_video_comes_once_with_all_its_views(paths, workers):
    batches = read(paths, workers=workers)
    assert [batch["video"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, -1]]
    pixels = np.concatenate([batch["views"] for batch in batches])
    assert (pixels.shape, pixels.dtype) == ((6, 6, 4, 32, 32, 3), np.uint8)
    for path, found in zip(paths, pixels, strict=False):
        np.testing.assert_array_equal(found, read_views(path, VIEWS))
    assert not pixels[5].any()
    assert not any(batch["reason"].any() for batch in batches)
    assert multiprocessing.active_children() == []


@given(videos=st.integers(1, 40), processes=st.integers(1, 4), each=st.integers(1, 5))
def test_processes_share_all_videos_and_make_equally_many_batches(videos, processes, each):
    found, lengths = [], set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eval_views, "read_views", lambda path, views: np.zeros(()))
        batches = -(-videos // (processes * each))
        for process in range(processes):
            places = tuple(Share((process,), processes).examples(processes * each).tolist())
            examples = eval_views._Views(tuple(map(str, range(videos))), VIEWS, processes * each, places)
            numbers = [int(examples(n)["video"]) for n in range(batches * each)]
            lengths.add(len(numbers))
            found += [number for number in numbers if number >= 0]
    assert sorted(found) == list(range(videos))
    assert len(lengths) == 1


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ([(0,), (1,)], [[[0, 1], [4, -1]], [[2, 3], [-1, -1]]]),
        ([(0, 3), (1, 2)], [[[0, 3], [4, -1]], [[1, 2], [-1, -1]]]),
    ],
)
def test_two_processes_read_their_shares_of_each_batch(paths, slots, expected):
    of = sum(map(len, slots))
    halves = [read(paths, batch_size=4, share=Share(held, of)) for held in slots]
    assert [[batch["video"].tolist() for batch in half] for half in halves] == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_video_keeps_its_place_and_says_why(paths, tmp_path, workers):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all")
    (first, second) = read([paths[0], str(bad), paths[1]], workers=workers)
    assert first["video"].tolist() == [0, 1]
    assert reason_text(first["reason"][0]) == ""
    assert "cannot be read as a video" in reason_text(first["reason"][1])
    assert not first["views"][1].any()
    np.testing.assert_array_equal(second["views"][0], read_views(paths[1], VIEWS))


def test_negative_workers_are_refused(paths):
    with pytest.raises(ConfigError, match=r"config\.data\.workers=-1"):
        read(paths, workers=-1)


def test_nothing_is_left_in_shared_memory(paths):
    program = """
import sys
from grain._src.python.ipc.shared_memory_array import SharedMemoryArray
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.eval_clips import view_batches
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.runtime.share import Share

if __name__ == "__main__":
    options = {"batch_size": 2, "workers": 2, "share": Share()}
    with view_batches(sys.argv[1:], ViewSpec(ClipSpec(4, 2, 32)), **options) as batches:
        print(sum(1 for batch in batches))
    # What was let go is freed by a thread of Grain's own, first come, first served: wait for it.
    pool = SharedMemoryArray._del_thread_pool
    pool and pool.apply(int)
"""
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["3"], done.stderr
    assert "leaked" not in done.stderr
