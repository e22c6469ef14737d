import errno
import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from mgmae_jax.datasets import motion_shapes
from mgmae_jax.datasets.motion_shapes import CLASSES
from mgmae_jax.errors import FileError, MgmaeError

SMALL = {"size": (48, 64), "frames": 8}


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def prepare(cache: Path, *, videos: int = 3, seed: int = 0, **options) -> Path:
    return motion_shapes.prepare(cache, videos=videos, seed=seed, **SMALL, **options)


def test_render_is_a_pure_function_of_seed_and_index():
    first = motion_shapes.render(3, 5, **SMALL)
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    again = motion_shapes.render(3, 5, **SMALL)
    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.label, first.pivot, first.fps) == (again.label, again.pivot, again.fps)
    assert first.frames.shape == (8, 48, 64, 3)
    assert first.frames.dtype == np.uint8
    for other in (motion_shapes.render(3, 6, **SMALL), motion_shapes.render(4, 5, **SMALL)):
        assert not np.array_equal(first.frames, other.frames)


def test_labels_are_balanced_over_indices():
    labels = [motion_shapes.render(0, i, **SMALL).label for i in range(2 * len(CLASSES))]
    np.testing.assert_array_equal(np.bincount(labels), 2)


@pytest.mark.parametrize("index", [0, 7])
def test_the_pivot_frame_does_not_tell_the_label(index):
    videos = [motion_shapes.render(1, index, label=label, **SMALL) for label in range(len(CLASSES))]
    pivot = videos[0].pivot
    for video in videos:
        assert video.pivot == pivot
        assert video.fps == videos[0].fps
        np.testing.assert_array_equal(video.frames[pivot], videos[0].frames[pivot])
    starts = {video.frames[0].tobytes() for video in videos}
    assert len(starts) == len(CLASSES)


@pytest.mark.parametrize(
    "arguments",
    [{"size": (16, 64)}, {"frames": 4}, {"label": len(CLASSES)}, {"label": -1}, {"seed": -1}, {"index": -1}],
    ids=str,
)
def test_render_refuses_what_it_cannot_draw(arguments):
    (name,) = arguments
    with pytest.raises(MgmaeError, match=name):
        motion_shapes.render(**{"seed": 0, "index": 0, **SMALL, **arguments})


def test_prepare_writes_the_videos_that_render_draws(tmp_path):
    index = prepare(tmp_path)
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    assert [row["label"] for row in rows] == list(CLASSES[:3])
    assert rows[2]["path"] == f"{CLASSES[2]}/000002.mp4"
    for i, row in enumerate(rows):
        decoded, drawn = decode(index.parent / row["path"]), motion_shapes.render(0, i, **SMALL).frames
        assert decoded.shape == drawn.shape
        # Colour at half resolution and compression cost a few grey levels, far less than another video would.
        assert np.abs(decoded.astype(float) - drawn).mean() < 8
    assert json.loads((index.parent / "manifest.json").read_text())["frames"] == 8


def test_a_complete_cache_is_reused(tmp_path, monkeypatch):
    index = prepare(tmp_path)
    monkeypatch.setattr(motion_shapes, "render", lambda *args, **kwargs: pytest.fail("rendered again"))
    progress = []
    assert prepare(tmp_path, on_progress=lambda *args: progress.append(args)) == index
    assert progress == [(3, 3)]


def test_a_stopped_call_is_completed(tmp_path, monkeypatch):
    encode, left = motion_shapes.encode_mp4, iter(range(2))

    def stop_at_third(frames, fps):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return encode(frames, fps)

    monkeypatch.setattr(motion_shapes, "encode_mp4", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path)
    assert not list(tmp_path.rglob("index.jsonl"))
    monkeypatch.setattr(motion_shapes, "encode_mp4", encode)
    progress = []
    index = prepare(tmp_path, on_progress=lambda *args: progress.append(args))
    assert progress == [(2, 3), (3, 3)]
    assert len(list(index.parent.rglob("*.mp4"))) == 3


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "test"}, {"videos": 4}], ids=str)
def test_other_arguments_have_another_folder(tmp_path, other):
    first, second = prepare(tmp_path), prepare(tmp_path, **other)
    assert first.parent != second.parent


def test_splits_and_seeds_share_no_video(tmp_path):
    splits = [prepare(tmp_path, seed=seed, split=split) for seed in (0, 1) for split in ("train", "test")]
    contents = {path.read_bytes() for index in splits for path in index.parent.rglob("*.mp4")}
    assert len(contents) == 4 * 3


def test_several_calls_at_once(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        indices = set(pool.map(lambda _: prepare(tmp_path), range(4)))
    (index,) = indices
    files = sorted(path.name for path in index.parent.rglob("*") if path.is_file())
    assert files == ["000000.mp4", "000001.mp4", "000002.mp4", "index.jsonl", "manifest.json"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FileError, match=r"file/.*: cannot be written .* MGMAE_CACHE"):
        prepare(blocked)


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match="No space left on device"):
        prepare(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_several_processes_draw_what_one_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(motion_shapes, "_FEW", 2)
    progress = []
    alone = prepare(tmp_path / "alone", videos=8)
    index = prepare(tmp_path / "pool", videos=8, processes=2, on_progress=lambda *args: progress.append(args))
    assert progress == [(done, 8) for done in range(9)]
    files = {path.relative_to(alone.parent) for path in alone.parent.rglob("*") if path.is_file()}
    assert files == {path.relative_to(index.parent) for path in index.parent.rglob("*") if path.is_file()}
    assert all((alone.parent / path).read_bytes() == (index.parent / path).read_bytes() for path in files)


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_told_as_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(motion_shapes, "_FEW", 2)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FileError, match=r"file/.*: cannot be written .* MGMAE_CACHE"):
        prepare(blocked, videos=8, processes=2)
    with pytest.raises(MgmaeError, match="frames=4"):
        motion_shapes.prepare(tmp_path, videos=8, seed=0, size=(32, 32), frames=4, processes=2)


@pytest.mark.slow
def test_an_interrupted_pool_drops_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(motion_shapes, "_FEW", 2)

    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, videos=400, processes=2, on_progress=interrupt)
    assert 0 < len(list(tmp_path.rglob("*.mp4"))) < 200
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    "wrong", [{"videos": 0}, {"processes": 0}, {"seed": -1}, {"split": "val"}, {"size": (48, 63)}], ids=str
)
def test_prepare_refuses_arguments_out_of_range(tmp_path, wrong):
    (name,) = wrong
    with pytest.raises(MgmaeError, match=name):
        motion_shapes.prepare(tmp_path, **{"videos": 3, "seed": 0, **SMALL, **wrong})


def test_the_default_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path))
    assert motion_shapes.default_cache() == tmp_path / "motion_shapes"
    monkeypatch.setenv("MGMAE_CACHE", "~/videos")
    assert motion_shapes.default_cache() == Path.home() / "videos" / "motion_shapes"
    monkeypatch.delenv("MGMAE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert motion_shapes.default_cache() == Path.home() / ".cache" / "mgmae_jax" / "motion_shapes"
