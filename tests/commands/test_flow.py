import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands import flow
from mgmae_jax.commands.flow import shard, video_files
from mgmae_jax.data.decode import decode_frames, video_info
from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.host_flow import tvl1_flow
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.stored_flow import flow_path, read_flow, to_cells
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import MgmaeError
from mgmae_jax.train import store_flow

CONFIG = "pretrain/folder"
SIZE = (48, 64)
LENGTHS = (11, 9, 1)  # frames of the videos; parts of 8 steps end within one and with the other


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flow, "enable_compilation_cache", lambda folder: None)


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "videos" / name for name in ("a.mp4", "sub/b.mp4", "sub/c.mp4")]
    for index, (path, length) in enumerate(zip(paths, LENGTHS, strict=True)):
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = motion_shapes.render(0, index, size=SIZE, frames=40).frames[15 : 15 + length]
        path.write_bytes(encode_mp4(frames, 12))
    return paths


def arguments(videos: list[Path], *more: str, method: str = "tvl1", size: int = 48) -> list[str]:
    folder = f"--config.data.path={videos[0].parent}"
    return ["flow", "--config", CONFIG, folder, f"--config.flow.size={size}", f"--method={method}", *more]


def stored(video: Path, path: Path | None = None) -> np.ndarray:
    info = video_info(video)
    return read_flow(path or flow_path(video), video, frames=info.frames, frame_size=SIZE).steps


def test_the_flow_of_every_frame_is_kept_both_ways(videos: list[Path], capsys: pytest.CaptureFixture):
    assert main(arguments(videos, "--config.flow.tvl1_fast=true")) == 0
    assert "video 3/3  3 made" in capsys.readouterr().err
    for video, length in zip(videos, LENGTHS, strict=True):
        assert stored(video).shape == (2, length - 1, 12, 16, 2)
    frames = decode_frames(videos[0], range(11))
    square = np.stack([cv2.resize(frame, (48, 48), interpolation=cv2.INTER_LINEAR) for frame in frames])
    for row, ends in ((0, [8, 9]), (1, [9, 8])):  # the first step of the second part
        expected = to_cells(tvl1_flow(square, ends[:1], ends[1:], fast=True), SIZE)[0]
        np.testing.assert_allclose(stored(videos[0])[row, 8], expected, rtol=2e-3, atol=2e-3)
        assert np.abs(expected).max() > 0.5


def test_a_second_call_makes_only_what_is_missing_or_wrong(videos: list[Path], capsys: pytest.CaptureFixture):
    main(arguments(videos))
    files = [flow_path(video) for video in videos]
    content, times = [path.read_bytes() for path in files], [path.stat().st_mtime_ns for path in files]
    capsys.readouterr()
    assert main(arguments(videos)) == 0
    assert "video 3/3  0 made" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in files] == times
    files[0].write_bytes(content[0][:500])  # damaged
    files[1].write_bytes(content[0])  # of another video
    assert main(arguments(videos)) == 0
    assert "video 3/3  2 made" in capsys.readouterr().err
    assert [path.read_bytes() for path in files] == content


def test_an_interrupted_call_is_completed_by_the_next(videos: list[Path], monkeypatch: pytest.MonkeyPatch):
    whole = store_flow.write_flow

    def stopped(path: Path, *rest: object) -> None:
        if path.name.startswith("b."):
            raise KeyboardInterrupt
        whole(path, *rest)

    monkeypatch.setattr(store_flow, "write_flow", stopped)
    assert main(arguments(videos)) == 130
    assert [flow_path(video).exists() for video in videos] == [True, False, False]
    before = flow_path(videos[0]).stat().st_mtime_ns
    monkeypatch.setattr(store_flow, "write_flow", whole)
    assert main(arguments(videos)) == 0
    assert flow_path(videos[0]).stat().st_mtime_ns == before
    assert all(stored(video).shape[1] == length - 1 for video, length in zip(videos, LENGTHS, strict=True))


def test_flow_may_be_kept_in_a_folder_of_its_own(videos: list[Path], tmp_path: Path):
    assert main(arguments(videos, f"--config.flow.path={tmp_path}/flow")) == 0
    files = sorted(str(path.relative_to(tmp_path / "flow")) for path in (tmp_path / "flow").rglob("*.npz"))
    assert files == ["a.mp4.flow.npz", "sub/b.mp4.flow.npz", "sub/c.mp4.flow.npz"]
    assert not any(flow_path(video).exists() for video in videos)


def test_unreadable_videos_are_named_and_the_others_done(videos: list[Path], capsys: pytest.CaptureFixture):
    videos[1].write_text("no video")
    assert main(arguments(videos)) == 1
    errors = capsys.readouterr().err
    assert "1 of 3 videos cannot be read and have no flow:" in errors
    assert re.search(r"sub/b\.mp4: cannot be read as a video", errors)
    assert [flow_path(video).exists() for video in videos] == [True, False, True]


def test_shards_share_out_the_videos(videos: list[Path]):
    main(arguments(videos, "--shard=1/2"))
    assert [flow_path(video).exists() for video in videos] == [False, True, False]
    names = ["a", "b", "c", "d", "e"]
    assert sorted(name for i in range(3) for name in shard(names, f"{i}/3")) == names


@pytest.mark.parametrize("part", ["3/3", "1", "-1/2", "0/0", "1/two"])
def test_wrong_shards_are_explained(part: str):
    with pytest.raises(MgmaeError, match=rf"--shard {part}: give I/N"):
        shard(["a"], part)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--config.data.path="], "config.data.path='': give a folder of videos"),
        (["--config.flow.size=8"], "config.flow.size=8: give 16 or more"),
        (["--config.flow.size=32", "--method=raft"], "config.flow.size=32: give 64 pixels or more per side for RAFT"),
        (["--config.flow.iters=0"], "config.flow.iters=0: give 1 or more"),
        (["--method=raft", "--config.flow.weights="], "config.flow.weights='': give bundled"),
    ],
)
def test_wrong_values_name_their_field(videos: list[Path], more: list[str], words: str, capsys: pytest.CaptureFixture):
    assert main([*arguments(videos), *more]) == 1
    assert words in capsys.readouterr().err


def test_a_config_without_flow_is_refused(videos: list[Path], capsys: pytest.CaptureFixture):
    assert main(["flow", "--config=finetune/common", f"--config.data.path={videos[0].parent}"]) == 1
    assert "finetune/common: has no flow: give one of the configs for pre-training" in capsys.readouterr().err


@pytest.mark.slow
def test_raft_is_compiled_once_and_right(videos: list[Path], monkeypatch: pytest.MonkeyPatch):
    blurred = cv2.GaussianBlur(np.random.default_rng(0).uniform(-400, 656, (100, 120, 3)), None, 2)
    texture = np.clip(blurred, 0, 255).astype(np.uint8)
    frames = [texture[30 - i : 78 - i, 40 - 2 * i : 104 - 2 * i] for i in range(LENGTHS[0])]
    videos[0].write_bytes(encode_mp4(np.stack(frames), 12))
    shapes = []
    pair_flow = store_flow.pair_flow

    def counted(params: object, frames: np.ndarray, *rest: object, **options: object) -> object:
        shapes.append(frames.shape)
        return pair_flow(params, frames, *rest, **options)

    monkeypatch.setattr(store_flow, "pair_flow", counted)
    assert main(arguments(videos, "--config.flow.iters=4", method="raft", size=64)) == 0
    assert shapes == [(9, 64, 64, 3)]
    found = np.median(stored(videos[0]), (2, 3))  # of each step, in pixels of the video: it is not square
    np.testing.assert_allclose(found.mean(1), [[2, 1], [-2, -1]], atol=0.25)
    np.testing.assert_allclose(found, np.broadcast_to([[[2, 1]], [[-2, -1]]], (2, 10, 2)), atol=0.6)


def test_videos_in_a_bucket_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    listed = VideoList(("/videos/a.mp4", "gs://bucket/b.mp4"), opener=open)
    monkeypatch.setattr(flow, "read_source", lambda path, field: listed)
    with pytest.raises(MgmaeError, match=r"^list.csv: lists gs://bucket/b.mp4, which is not a file here: mount the"):
        video_files("list.csv", "data.path")
    listed = VideoList(("/videos/a.mp4",))
    assert video_files("list.csv", "data.path") == ("/videos/a.mp4",)
