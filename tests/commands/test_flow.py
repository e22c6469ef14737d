import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands import flow
from mgmae_jax.commands.flow import shard
from mgmae_jax.data.decode import decode_frames, open_video
from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.flow_places import SUFFIX, flow_path, video_facts
from mgmae_jax.data.host_flow import host_flow
from mgmae_jax.data.stored_flow import StoredFlow, read_flow, to_cells
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import MgmaeError
from mgmae_jax.flow.clip_flow import grid_flow
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


def arguments(videos: list[Path], *more: str, method: str = "dis", size: int = 48) -> list[str]:
    folder = f"--config.data.path={videos[0].parent}"
    return ["flow", "--config", CONFIG, folder, f"--size={size}", f"--method={method}", *more]


def stored(video: Path, path: Path | None = None) -> StoredFlow:
    with open_video(video) as opened:
        return read_flow(path or flow_path(video), video, video_facts(opened, video))


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_the_flow_of_every_frame_is_kept_both_ways(videos: list[Path], method: str, capsys: pytest.CaptureFixture):
    assert main(arguments(videos, "--config.flow.tvl1_fast=true", method=method)) == 0
    assert "video 3/3  3 made" in capsys.readouterr().err
    for video, length in zip(videos, LENGTHS, strict=True):
        assert stored(video).steps.shape == (length - 1, 2, 6, 8, 2)
    frames = decode_frames(videos[0], range(11))  # the size that flow is computed on
    found = stored(videos[0]).steps
    for row, ends in ((0, [8, 9]), (1, [9, 8])):  # the first step of the second part
        expected = to_cells(host_flow(frames, ends[:1], ends[1:], method, fast=True), 6, 8)[0]
        np.testing.assert_allclose(found[8, row], expected, atol=np.ptp(expected) / 500)
        assert np.abs(expected).max() > 0.05


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
    assert main(arguments(videos, size=56)) == 0  # another method
    assert "video 3/3  3 made" in capsys.readouterr().err


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
    assert all(len(stored(video).steps) == length - 1 for video, length in zip(videos, LENGTHS, strict=True))


def test_flow_may_be_kept_in_a_folder_of_its_own(videos: list[Path], tmp_path: Path):
    assert main(arguments(videos, f"--config.flow.path={tmp_path}/flow")) == 0
    files = sorted(str(path.relative_to(tmp_path / "flow")) for path in (tmp_path / "flow").rglob(f"*{SUFFIX}"))
    assert files == [f"{name}{SUFFIX}" for name in ("a.mp4", "sub/b.mp4", "sub/c.mp4")]
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
        (["--size=8"], "--size 8: give a multiple of 8, 16 or more for --method dis"),
        (["--size=50"], "--size 50: give a multiple of 8, 16 or more for --method dis"),
        (["--size=32", "--method=raft"], "--size 32: give a multiple of 8, 64 or more for"),
        (["--iters=0", "--method=raft", "--size=64"], "--iters 0: give 1 or more"),
        (["--method=raft", "--size=64", "--config.flow.weights="], "config.flow.weights='': give bundled"),
    ],
)
def test_wrong_values_name_their_field(videos: list[Path], more: list[str], words: str, capsys: pytest.CaptureFixture):
    assert main([*arguments(videos), *more]) == 1
    assert words in capsys.readouterr().err


def test_a_config_without_flow_is_refused(videos: list[Path], capsys: pytest.CaptureFixture):
    assert main(["flow", "--config=finetune/common", f"--config.data.path={videos[0].parent}"]) == 1
    assert "finetune/common: has no flow: give one of the configs for pre-training" in capsys.readouterr().err


def test_raft_is_compiled_once_and_right(videos: list[Path], monkeypatch: pytest.MonkeyPatch):
    blurred = cv2.GaussianBlur(np.random.default_rng(0).uniform(-400, 656, (100, 120, 3)), None, 2)
    texture = np.clip(blurred, 0, 255).astype(np.uint8)
    frames = [texture[30 - i : 78 - i, 40 - 2 * i : 104 - 2 * i] for i in range(LENGTHS[0])]
    videos[0].write_bytes(encode_mp4(np.stack(frames), 12))
    shapes = []

    def counted(params: object, frames: np.ndarray, *rest: object, **options: object) -> object:
        shapes.append(frames.shape)
        return grid_flow(params, frames, *rest, **options, scan=True)  # which compiles in seconds

    monkeypatch.setattr(store_flow, "grid_flow", counted)
    assert main(arguments(videos, "--iters=4", method="raft", size=64)) == 0
    assert shapes == [(9, 64, 96, 3)]
    flow = stored(videos[0])
    pixels = np.array([64, 48]) / flow.grid.span[::-1]  # of the video for a step of the grid
    found = np.median(flow.steps * pixels, (2, 3))  # of each step
    np.testing.assert_allclose(found.mean(0), [[2, 1], [-2, -1]], atol=0.25)
    np.testing.assert_allclose(found, np.broadcast_to([[2, 1], [-2, -1]], (10, 2, 2)), atol=0.6)


def test_records_have_their_flow_in_a_folder(videos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    records = tmp_path / "records"
    assert main(["prepare", str(videos[0].parent), f"--out={records}", "--processes=1"]) == 0
    asked = ["flow", "--config", CONFIG, f"--config.data.path={records}", "--method=dis", "--size=48"]
    assert main(asked) == 1
    assert "has no place beside it for its flow: set config.flow.path to a folder" in capsys.readouterr().err
    assert main([*asked, f"--config.flow.path={tmp_path}/flow"]) == 0
    files = sorted(str(path.relative_to(tmp_path / "flow")) for path in (tmp_path / "flow").rglob(f"*{SUFFIX}"))
    assert files == [f"{name}{SUFFIX}" for name in ("a.mp4", "sub/b.mp4", "sub/c.mp4")]


@pytest.mark.parametrize(
    ("size", "sides"),
    [((240, 320), (256, 352)), ((320, 240), (352, 256)), ((256, 256), (256, 256)), ((10, 400), (256, 1024))],
)
def test_flow_is_computed_on_frames_of_almost_the_same_shape(size: tuple[int, int], sides: tuple[int, int]):
    assert store_flow.frame_sides(*size, 256) == sides
