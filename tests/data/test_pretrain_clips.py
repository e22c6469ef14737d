import itertools
import multiprocessing
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.decode import Video
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.host_flow import host_flow
from mgmae_jax.data.pretrain_clips import FlowSpec, _PretrainClips, pretrain_batches
from mgmae_jax.data.sources import VideoList, read_source
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.ops.pairs import adjacent_pairs, neighbour_pairs
from mgmae_jax.runtime.share import Share

CLIP = ClipSpec(frames=4, stride=2, size=32)


def no_bad(path, reason):
    raise AssertionError(f"{path}: {reason}")


def read(videos, count, *, clip=CLIP, on_bad=no_bad, **changes):
    """The first `count` batches."""
    options = {
        "batch_size": 4,
        "views": 2,
        "seed": 0,
        "workers": 0,
        "start_step": 0,
        "flow": None,
    } | changes
    rest = {name: options.pop(name) for name in ("start_step", "flow")}
    with pretrain_batches(videos, clip, BatchSpec(**options), on_bad=on_bad, **rest) as batches:
        return list(itertools.islice(batches, count))


@pytest.fixture(scope="module")
def videos(video_folder):
    return read_source(video_folder)


@pytest.fixture(scope="module")
def clips(videos):
    """Three batches' clips, for comparison."""
    return [batch["clip"] for batch in read(videos, 3)]


def test_shape_and_type(clips):
    assert [(clip.shape, clip.dtype, type(clip)) for clip in clips] == [((8, 4, 32, 32, 3), np.uint8, np.ndarray)] * 3


def test_other_seeds_give_other_clips(videos, clips):
    assert not np.array_equal(read(videos, 1, seed=1)[0]["clip"], clips[0])


def test_views_are_different_crops(clips):
    both = np.concatenate(clips).reshape(12, 2, 4, 32, 32, 3)
    assert any(not np.array_equal(first, second) for first, second in both)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_do_not_change_the_batches(videos, clips, workers):
    for batch, expected in zip(read(videos, 3, workers=workers), clips, strict=True):
        assert type(batch["clip"]) is np.ndarray
        np.testing.assert_array_equal(batch["clip"], expected)
    assert multiprocessing.active_children() == []


def test_closing_at_once_leaves_no_worker(videos):
    read(videos, 0, workers=2)
    assert multiprocessing.active_children() == []


def test_closed_batches_end(videos):
    with pretrain_batches(
        videos,
        CLIP,
        BatchSpec(batch_size=1, views=1, seed=0, workers=0),
        start_step=0,
        flow=None,
        on_bad=no_bad,
    ) as batches:
        assert next(batches)["clip"].shape == (1, 4, 32, 32, 3)
    assert list(batches) == []
    batches.close()


@pytest.mark.parametrize("start_step", [1, 2])
def test_resuming_at_a_step_goes_on_with_the_same_batches(videos, clips, start_step):
    resumed = read(videos, 3 - start_step, start_step=start_step)
    for batch, expected in zip(resumed, clips[start_step:], strict=True):
        np.testing.assert_array_equal(batch["clip"], expected)


@pytest.mark.parametrize("slots", [[(0,), (1,)], [(0,), (1,), (2,), (3,)], [(0, 3), (1, 2)], [(1, 3), (0, 2)]])
def test_the_shares_of_all_processes_make_the_batch(videos, clips, slots):
    shares = [Share(held, sum(map(len, slots))) for held in slots]
    parts = [read(videos, 2, share=share) for share in shares]
    for step in range(2):
        whole = np.empty_like(clips[step])
        for share, part in zip(shares, parts, strict=True):
            whole[share.rows(len(whole))] = part[step]["clip"]
        np.testing.assert_array_equal(whole, clips[step])


def test_every_epoch_holds_every_video_once_in_another_order(tmp_path, make_video):
    levels = range(20, 230, 30)
    for level in levels:
        make_video(f"{level}.mkv", frames=np.full((2, 16, 16, 3), level, np.uint8), codec="ffv1", pix_fmt="bgr0")
    videos = read_source(tmp_path)
    batches = read(videos, 6, batch_size=len(videos), views=1, clip=ClipSpec(1, 1, 16))
    epochs = [tuple(batch["clip"][:, 0, 0, 0, 0].tolist()) for batch in batches]
    assert [sorted(epoch) for epoch in epochs] == [list(levels)] * 6
    assert len(set(epochs)) == 6


@pytest.mark.parametrize(("direction", "method"), [("to_base", "tvl1"), ("to_earlier", "dis")])
def test_flow_towards_a_base_frame(videos, direction, method):
    (batch,) = read(videos, 1, batch_size=2, flow=FlowSpec(2, direction, fast=True, source=method))
    source, target = neighbour_pairs(4, 2, direction)
    assert batch["flow"].dtype == np.float32
    assert batch["flow"].shape == (4, 3, 32, 32, 2)
    for clip, flow in zip(batch["clip"], batch["flow"], strict=True):
        np.testing.assert_array_equal(flow, host_flow(clip, source, target, method, fast=True))


def test_flow_both_ways(videos):
    (batch,) = read(videos, 1, batch_size=1, flow=FlowSpec(base=None, fast=True))
    assert batch["flow"].shape == (2, 2, 3, 32, 32, 2)
    for clip, flow in zip(batch["clip"], batch["flow"], strict=True):
        for row, (source, target) in enumerate(zip(*adjacent_pairs(4), strict=True)):
            np.testing.assert_array_equal(flow[row], host_flow(clip, source, target, "tvl1", fast=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_video_gives_its_place_to_the_next(videos, tmp_path, workers):
    absent, broken = str(tmp_path / "été.mp4"), str(tmp_path / "broken.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"nothing" * 100)
    mixed = VideoList((*videos.paths[:2], absent, *videos.paths[2:4], broken, videos.paths[4]))
    met = []
    batches = read(mixed, 7, batch_size=2, on_bad=lambda *bad: met.append(bad), workers=workers)
    assert [batch["clip"].shape for batch in batches] == [(4, 4, 32, 32, 3)] * 7  # Two epochs.
    reasons = dict(met)
    assert len(met) == len(reasons)
    assert reasons[absent] == "no such file"
    assert reasons[broken].startswith("cannot be read as a video")


def test_the_replacement_is_the_example_of_the_next_position(videos, tmp_path):
    paths = list(videos.paths)
    paths[1] = str(tmp_path / "absent.mp4")
    whole = [batch["clip"] for batch in read(videos, 10, batch_size=1)]
    mixed = [batch["clip"] for batch in read(VideoList(tuple(paths)), 9, batch_size=1, on_bad=lambda *bad: None)]
    replaced = [i for i in range(9) if not np.array_equal(whole[i], mixed[i])]
    assert 1 <= len(replaced) <= 2  # Once in each of the two epochs.
    for i in replaced:
        np.testing.assert_array_equal(mixed[i], whole[i + 1])


@pytest.mark.parametrize("workers", [0, 1])
def test_only_bad_videos_end_the_run(tmp_path, workers):
    nothing = VideoList((str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")))
    with pytest.raises(MgmaeError) as error:
        read(nothing, 1, on_bad=lambda *bad: None, workers=workers)
    head, *names = str(error.value).splitlines()
    assert head == "16 videos in a row cannot be read, from position 0 on (the last: no such file):"
    assert sorted(name.strip() for name in names) == list(nothing.paths)
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_explained(videos):
    with pytest.raises(MgmaeError, match=r"reading videos stopped: .*exit code -9.* lower config\.data\.workers"):
        read(videos, 100, workers=1, flow=KillsItsWorker(base=None))
    assert multiprocessing.active_children() == []


class KillsItsWorker(FlowSpec):
    """Ends the process that asks for its base frame, as a lack of memory does."""

    def __getattribute__(self, name):
        if name == "base" and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)


def test_what_on_bad_raises_ends_the_run(videos, tmp_path):
    mixed = VideoList((*videos.paths, str(tmp_path / "absent.mp4")))
    with pytest.raises(AssertionError, match="no such file"):
        read(mixed, 6)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (
            {"batch_size": 3, "views": 1, "share": Share((0,), 2)},
            "train.batch_size=3: give a multiple of the number of devices, which is 2",
        ),
        (
            {"batch_size": 1, "share": Share((0,), 2)},
            "train.batch_size=1: give a multiple of the number of devices, which is 2: a process would hold half",
        ),
        ({"batch_size": 0}, "train.batch_size"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"workers": -1}, "data.workers"),
        ({"flow": FlowSpec(base=4)}, "mask.base_frame=4: give a frame of the clip, from 0 to 3"),
    ],
)
def test_wrong_numbers_name_the_field(videos, changes, field):
    with pytest.raises(ConfigError, match=f"config.{field}"):
        read(videos, 1, **changes)


def test_nothing_here_imports_jax():
    program = """
import sys
sys.modules["jax"] = None  # Importing it fails.
import mgmae_jax.data.augment, mgmae_jax.data.batches, mgmae_jax.data.frames, mgmae_jax.data.decode
import mgmae_jax.data.sources, mgmae_jax.ops.pairs, mgmae_jax.data.host_flow
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_views_of_a_video_share_its_decoding(videos, monkeypatch):
    decoded = []
    decode = Video.decode
    monkeypatch.setattr(Video, "decode", lambda video, indices: decoded.append(video.path) or decode(video, indices))
    example = _PretrainClips(CLIP, views=3, seed=0, flow=None)(videos.item(1), None, 0)
    assert len(np.unique(example["clip"], axis=0)) == 3
    assert decoded == [videos.paths[1]]


def test_whole_frames_come_with_the_places_of_their_crops(videos):
    side = 128
    with pretrain_batches(
        videos,
        CLIP,
        BatchSpec(batch_size=4, views=2, seed=0, workers=0),
        start_step=0,
        flow=None,
        on_bad=no_bad,
        whole=side,
    ) as batches:
        batch = next(batches)
    assert (batch["whole"].shape, batch["whole"].dtype) == ((4, 4, side, side, 3), np.uint8)
    assert (batch["whole_place"].shape, batch["whole_place"].dtype) == ((8, 2, 2), np.float32)

    def error(view, place):
        """How far a view is from what lies in a place of the whole frames."""
        (y, height), (x, width) = (place * side).round().astype(int)
        frame = batch["whole"][view // 2, 0, y : y + height, x : x + width]
        return np.abs(
            cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA) - batch["clip"][view, 0].astype(int)
        ).mean()

    for view, place in enumerate(batch["whole_place"]):
        assert error(view, place) < 0.5 * error(view, batch["whole_place"][view ^ 1])
