import contextlib
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.decode import Item, Readable, Video, open_video
from mgmae_jax.data.frame_cache import FrameCache, cached_frames
from mgmae_jax.data.frame_folders import FrameFolders, Frames
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import pretrain_batches
from mgmae_jax.data.remote import open_video_file
from mgmae_jax.data.sources import read_source
from mgmae_jax.datasets.listed import own_split
from mgmae_jax.datasets.prepare import in_processes, prepare
from mgmae_jax.errors import FileError
from tests.data.test_frame_folders import write_frames
from tests.data.test_remote import bucket

__all__ = ["bucket"]  # the fixture of gs://

INDICES = np.array([3, 5, 7, 7])


def batches(folder: Path, cache: FrameCache | None, workers: int = 0) -> list[np.ndarray]:
    spec = BatchSpec(batch_size=5, views=2, seed=0, workers=workers)
    with pretrain_batches(
        read_source(folder), ClipSpec(4, 2, 32), spec, start_step=0, flow=None, on_bad=pytest.fail, cache=cache
    ) as read:
        return [batch["clip"] for batch in itertools.islice(read, 2)]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_clips_are_those_without_a_cache(video_folder: Path, tmp_path: Path, workers: int):
    cache = FrameCache(str(tmp_path / "frames"), 1.0)
    expected = batches(video_folder, None)
    for _ in ("decoded and kept", "read"):
        np.testing.assert_array_equal(batches(video_folder, cache, workers), expected)
        assert len(list((tmp_path / "frames").glob("*.npy"))) == 5
    assert not list((tmp_path / "frames").glob(".*"))


def frames_of(path: Path, cache: FrameCache) -> np.ndarray:
    with open_video(path) as video:
        return cached_frames(video, str(path), INDICES, cache)


def test_what_is_kept_is_not_decoded_again(make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, cache = make_video("a.mp4", 12), FrameCache(str(tmp_path / "frames"), 1.0)
    with open_video(path) as video:
        expected = video.decode(INDICES)
    np.testing.assert_array_equal(frames_of(path, cache), expected)
    with monkeypatch.context() as context:
        context.setattr(Video, "decode", lambda video, indices: pytest.fail("it was decoded"))
        np.testing.assert_array_equal(frames_of(path, cache), expected)
    (kept,) = (tmp_path / "frames").iterdir()
    kept.write_bytes(kept.read_bytes()[:5000])  # damaged: made again
    np.testing.assert_array_equal(frames_of(path, cache), expected)
    make_video("a.mp4", 12, frames=np.zeros((12, 48, 64, 3), np.uint8))  # replaced
    assert frames_of(path, cache).max() < 30
    assert len(list((tmp_path / "frames").iterdir())) == 2


def test_a_full_cache_keeps_what_it_has(make_video, tmp_path: Path):
    one = 12 * 48 * 64 * 3
    cache = FrameCache(str(tmp_path / "frames"), 1.5 * one / 2**30)
    for name in ("a.mp4", "b.mp4"):
        assert frames_of(make_video(name, 12), cache).shape == (4, 48, 64, 3)
    assert len(list((tmp_path / "frames").iterdir())) == 1


def test_a_file_that_vanishes_does_not_empty_the_cache(make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, folder = 12 * 48 * 64 * 3, tmp_path / "frames"
    cache = FrameCache(str(folder), 1.5 * one / 2**30)
    frames_of(make_video("a.mp4", 12), cache)
    scandir = os.scandir

    def finished_meanwhile(path):
        (folder / ".b.npy.0.partial").touch()
        with scandir(path) as entries:
            found = list(entries)
        (folder / ".b.npy.0.partial").unlink()
        return contextlib.nullcontext(found)

    monkeypatch.setattr("mgmae_jax.data.frame_cache.os.scandir", finished_meanwhile)
    frames_of(make_video("c.mp4", 12), cache)
    assert len(list(folder.iterdir())) == 1


def test_nothing_is_added_to_a_folder_that_cannot_be_listed(make_video, tmp_path: Path, monkeypatch):
    (tmp_path / "frames").mkdir()

    def refuse(path):
        raise PermissionError(path)

    with monkeypatch.context() as context:
        context.setattr("mgmae_jax.data.frame_cache.os.scandir", refuse)
        frames_of(make_video("a.mp4", 12), FrameCache(str(tmp_path / "frames"), 1.0))
    assert not list((tmp_path / "frames").iterdir())


def test_what_killed_workers_have_left_is_removed_but_not_what_is_being_written(make_video, tmp_path: Path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, age in ((".a.npy.0.partial", 3700), (".b.npy.0.partial", 60), ("c.npy", 3700)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    frames_of(make_video("a.mp4", 12), FrameCache(str(folder), 0.0))
    assert {path.name for path in folder.iterdir()} == {".b.npy.0.partial", "c.npy"}


def test_a_video_with_lost_frames_is_not_kept(make_video, tmp_path: Path):
    path = make_video("a.mp4", 40, options={"g": "5", "bf": "0"})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 600] = bytes(600)
    path.write_bytes(content)
    with open_video(path) as video:
        list(video.stream())
        assert video.lost, "the damage cost no frame"
    assert frames_of(path, FrameCache(str(tmp_path / "frames"), 1.0)).shape == (4, 48, 64, 3)
    assert not list((tmp_path / "frames").iterdir())


def test_a_folder_that_cannot_be_written_is_named(make_video, tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FileError, match=r"taken/\w+\.npy: cannot be written .*config\.data\.cache"):
        frames_of(make_video("a.mp4", 12), FrameCache(str(tmp_path / "taken"), 1.0))


def cached_and_decoded(item: Readable, cache: FrameCache) -> tuple[np.ndarray, np.ndarray]:
    with open_video(item) as video:
        cached = cached_frames(video, item, INDICES, cache)
    with open_video(item) as video:
        return cached, video.decode(INDICES)


def check_each_has_its_own(first: Readable, second: Readable, cache: FrameCache) -> None:
    for item in (first, second, first):
        np.testing.assert_array_equal(*cached_and_decoded(item, cache))


def test_records_of_one_name_have_frames_of_their_own(make_video, tmp_path: Path):
    cache, items = FrameCache(str(tmp_path / "frames"), 1.0), []
    for place, frames in (("one", None), ("two", np.zeros((12, 48, 64, 3), np.uint8))):
        make_video(f"{place}/a.mp4", 12, frames=frames)
        splits = {"train": own_split(read_source(tmp_path / place), place)}
        prepare(splits, tmp_path / f"{place}_records", "videos", None, in_processes(1), lambda done, total: None)
        items.append(read_source(tmp_path / f"{place}_records").item(0))
    assert str(items[0]) == str(items[1]) == "a.mp4"
    check_each_has_its_own(*items, cache)
    assert len(list((tmp_path / "frames").iterdir())) == 2


def test_pictures_that_were_replaced_are_read_again(tmp_path: Path):
    cache, folder = FrameCache(str(tmp_path / "frames"), 1.0), write_frames(tmp_path / "a", 12)
    assert cached_and_decoded(folder, cache)[0][0, 0, 0, 0] == 3
    write_frames(folder, 12, value=100)  # in place, as by extracting them again
    assert cached_and_decoded(folder, cache)[0][0, 0, 0, 0] == 103
    assert len(list((tmp_path / "frames").iterdir())) == 2


def test_other_pictures_of_a_folder_are_another_video(tmp_path: Path):
    """Also if they have one name."""
    cache, folder = FrameCache(str(tmp_path / "frames"), 1.0), str(write_frames(tmp_path / "a", 30))
    check_each_has_its_own(
        *(Item(folder, FrameFolders({folder: Frames(folder, start, 12)})) for start in (1, 9)), cache
    )


def test_a_video_in_a_bucket_that_was_replaced_is_read_again(make_video, bucket, tmp_path: Path):
    cache, item = FrameCache(str(tmp_path / "frames"), 1.0), Item("gs://b/a.mp4", open_video_file)
    for frames in (None, np.zeros((12, 48, 64, 3), np.uint8)):
        bucket.pipe_file("/b/a.mp4", make_video("a.mp4", 12, frames=frames).read_bytes())
        np.testing.assert_array_equal(*cached_and_decoded(item, cache))
    assert len(list((tmp_path / "frames").iterdir())) == 2
