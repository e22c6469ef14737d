"""What a reader makes of damaged files: a lost frame looks like the one before it, and nothing crashes or grows."""

import contextlib
import gc
import itertools
import json
import random
import resource
from pathlib import Path

import av
import numpy as np
import pytest

from mgmae_jax.data import decode, freed_memory
from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.decode import decode_frames, open_video, video_info
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import pretrain_batches
from mgmae_jax.data.sources import VideoList
from mgmae_jax.errors import VideoError
from tests.data.conftest import write_video
from tests.data.test_decode import decode_all
from tests.shared_data import shared


def damage(path: Path, *numbers: int) -> Path:
    """Fills packets of a video, by their place in the file, with zeros."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        packet = packets[number]
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("lost", [[7], [13], [3, 4, 5], [38, 39]])
def test_a_lost_frame_looks_like_the_one_before_it(lost, make_video):
    path = make_video("a.mov", 40, codec="mjpeg", pix_fmt="yuvj420p")
    whole = decode_all(path)
    damage(path, *lost)
    expected = np.arange(40)
    for index in lost:
        expected[index] = expected[index - 1]
    with open_video(path) as video:
        assert video.frames == 40
        np.testing.assert_array_equal(list(video.stream()), whole[expected])
    np.testing.assert_array_equal(decode_frames(path, range(40)), whole[expected])
    for index in range(40):
        np.testing.assert_array_equal(decode_frames(path, [index])[0], whole[expected[index]])


def test_lost_frames_at_the_start_are_left_out(make_video):
    path = make_video("a.mov", 20, codec="mjpeg", pix_fmt="yuvj420p")
    whole = decode_all(path)
    damage(path, 0, 1, 2)
    np.testing.assert_array_equal(decode_frames(path, range(17)), whole[3:])


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "vp9.mp4", "mpeg4.avi"])
def test_what_comes_after_damage_is_read(name, make_video):
    codec = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "mpeg4": "mpeg4"}[name.split(".")[0]]
    options = {"g": "12", **({"x265-params": "log-level=none"} if codec == "libx265" else {})}
    path = make_video(name, 40, codec=codec, options=options)
    whole = decode_all(path)
    damage(path, 14)
    with open_video(path) as video:
        assert video.frames in (39, 40)
        left_out = 40 - video.frames
        frames = video.decode(range(video.frames))
    np.testing.assert_array_equal(frames[:12], whole[:12])
    np.testing.assert_array_equal(frames[24 - left_out :], whole[24:])
    for index in range(40 - left_out):
        assert decode_frames(path, [index]).shape == (1, 48, 64, 3)


def test_a_hole_longer_than_a_moment_is_an_error_for_its_frames_alone(make_video, monkeypatch):
    monkeypatch.setattr(decode, "_MOST_LOST", 5)
    path = make_video("a.mov", 40, codec="mjpeg", pix_fmt="yuvj420p")
    whole = decode_all(path)
    damage(path, *range(10, 20))
    np.testing.assert_array_equal(decode_frames(path, [9, 12, 14, 20, 39]), whole[[9, 9, 9, 20, 39]])
    with pytest.raises(VideoError, match=r"a\.mov: frame 15 of its 40 does not decode, nor do the 5 before it"):
        decode_frames(path, [9, 15])
    with open_video(path) as video, pytest.raises(VideoError, match="frame 15 of its 40 does not decode"):
        list(video.stream())


def test_a_file_of_which_nothing_decodes(make_video):
    path = damage(make_video("a.mp4", 20), *range(20))
    with pytest.raises(VideoError, match=r"a\.mp4: none of its 20 frames decodes"):
        video_info(path)


@pytest.mark.parametrize("error", [ValueError("16640 is not in list"), KeyError("x"), MemoryError(), IndexError("i")])
def test_an_unexpected_exception_names_the_file(error, make_video, monkeypatch):
    path = make_video("a.mp4", 5)

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_timeline", fail)
        with pytest.raises(VideoError, match=rf"a\.mp4: cannot be read as a video \({type(error).__name__}"):
            video_info(path)
    monkeypatch.setattr(decode, "all_frames", fail)
    with pytest.raises(VideoError, match=rf"a\.mp4: cannot be read as a video \({type(error).__name__}"):
        decode_frames(path, [0])


def test_a_header_that_claims_huge_frames_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "_MAX_PIXELS", 64 * 48)
    assert video_info(write_video(tmp_path / "a.mp4", 5, height=48, width=64)).frames == 5
    with pytest.raises(VideoError, match=r"b\.mp4: none of its 5 frames decodes"):
        video_info(write_video(tmp_path / "b.mp4", 5, height=64, width=64))


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The bytes of a file, truncated, with bits flipped, a header of another, a hole, or a piece taken out."""
    changed = bytearray(data)
    place = rng.randrange(len(changed))
    piece = rng.randrange(1, max(2, len(changed) // 4))
    match rng.randrange(6):
        case 0:
            del changed[place:]
        case 1:
            for _ in range(rng.choice([1, 5, 50, 500])):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case 2:
            size = rng.choice([16, 64, 512, 4096])
            changed[:size] = other[:size]
        case 3:
            changed[place : place + piece] = bytes(piece)
        case 4:
            del changed[place : place + piece]
        case 5:
            for _ in range(rng.choice([1, 5, 20])):
                changed[rng.randrange(min(len(changed), 2000))] = rng.randrange(256)
    return bytes(changed)


KINDS = {
    "a.mp4": {"options": {"g": "6", "bf": "2"}},
    "a.webm": {"codec": "libvpx-vp9", "options": {"g": "6", "cpu-used": "8"}},
    "a.avi": {"codec": "mpeg4", "options": {"g": "6", "bf": "2"}},
    "a.ts": {"options": {"g": "6"}},
    "a.mkv": {"codec": "libx265", "options": {"g": "6", "x265-params": "log-level=none"}},
    "a.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


def resident() -> int:
    """Bytes of memory in use by this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def write_mutants(folder: Path, seeds: range) -> list[Path]:
    """Writes a mutated video for each seed, one in five with another's extension."""
    folder.mkdir()
    whole = {name: write_video(folder / name, 24, **options).read_bytes() for name, options in KINDS.items()}
    names = sorted(whole)
    paths = []
    for seed in seeds:
        rng = random.Random(seed)
        name = rng.choice(names)
        suffix = Path(name if rng.random() < 0.8 else rng.choice(names)).suffix
        paths.append(folder / f"{seed}{suffix}")
        paths[-1].write_bytes(mutated(whole[name], whole[rng.choice(names)], rng))
    return paths


def read_mutants(folder: Path, seeds: range) -> tuple[int, int]:
    """Reads mutated videos; returns how many could be read and how many are bad."""
    good = 0
    for path in write_mutants(folder, seeds):
        rng = random.Random(path.stem)
        with contextlib.suppress(VideoError), open_video(path) as video:
            wanted = sorted(rng.randrange(video.frames) for _ in range(6))
            assert video.decode(wanted).shape == (6, *video.frame_size, 3), path
            good += 1
    return good, len(seeds) - good


def test_mutated_videos_are_read_or_bad(tmp_path):
    good, bad = read_mutants(tmp_path / "few", range(60))
    assert good > 20
    assert bad > 5


@pytest.mark.slow
def test_many_mutated_videos_take_no_more_memory_than_few(tmp_path):
    read_mutants(tmp_path / "first", range(100))
    before = resident()
    read_mutants(tmp_path / "many", range(100, 600))
    assert resident() < before * 1.05 + 2**21


@pytest.mark.slow
def test_training_on_mutated_videos(tmp_path):
    paths = write_mutants(tmp_path / "videos", range(1000, 1500))
    bad: dict[str, str] = {}
    videos = VideoList(tuple(map(str, paths)))
    spec = BatchSpec(batch_size=10, views=1, seed=0, workers=2)
    clip = ClipSpec(frames=4, stride=2, size=32)
    with pretrain_batches(videos, clip, spec, start_step=0, flow=None, on_bad=bad.__setitem__) as batches:
        for _ in range(50):
            assert next(batches)["clip"].shape == (10, 4, 32, 32, 3)
    assert 50 < len(bad) < 400
    assert all(reason for reason in bad.values())


def test_memory_is_given_back_after_some_videos(make_video, monkeypatch):
    given_back: list[int] = []
    monkeypatch.setattr(freed_memory, "_trim", given_back.append)
    monkeypatch.setattr(freed_memory, "_closed", itertools.count(1))
    monkeypatch.setattr(freed_memory, "_EVERY", 3)
    path = make_video("a.mp4", 2)
    for _ in range(5):
        video_info(path)
    with pytest.raises(VideoError):
        video_info(path.with_name("none.mp4"))
    assert given_back == [0, 0]


@pytest.mark.slow
def test_many_reads_take_no_more_memory_than_few(tmp_path):
    paths = [write_video(tmp_path / name, 24, **options) for name, options in KINDS.items()]

    def read(times: int) -> None:
        for i in range(times):
            path = paths[i % len(paths)]
            with open_video(path) as video:
                video.decode([i % video.frames])

    read(300)
    before = resident()
    read(3000)
    assert resident() < before * 1.05


def cell_means(image: np.ndarray) -> np.ndarray:
    """Mean colours of a grid of 4 by 4 cells: [4, 4, 3]."""
    rows, columns = (np.linspace(0, side, 5).astype(int) for side in image.shape[:2])
    return np.array([
        [image[top:bottom, left:right].mean((0, 1)) for left, right in itertools.pairwise(columns)]
        for top, bottom in itertools.pairwise(rows)
    ])  # fmt: skip


# Mean levels by which these may differ: interlaced, of 10 bits or scaled, which FFmpeg's versions convert differently.
CHROMA = {"cam.MTS": 20, "h264_10bit.mp4": 4, "resize.ts": 5}


def test_files_of_other_programs_are_read_as_ffmpeg_reads_them():
    folder = shared("cases")
    for name, expected in json.loads((folder / "expected.json").read_text()).items():
        path = folder / "videos" / name
        if not expected["frames"]:
            with pytest.raises(VideoError, match="decode"):
                video_info(path)
            continue
        info = video_info(path)
        lost = info.frames - expected["frames"]
        assert 0 <= lost <= (1 if name in ("bad_nal.mp4", "bad_av1.mp4") else 0), name
        assert (info.height, info.width) == (expected["height"], expected["width"]), name
        alone = [decode_frames(path, [index])[0] for index in range(info.frames)]
        # A frame that is lost looks like the one before it, which FFmpeg shows once.
        shown = [image for i, image in enumerate(alone) if not lost or i == 0 or (image != alone[i - 1]).any()]
        assert len(shown) == expected["frames"], name
        for index, means in expected["mean_rgb_4x4"].items():
            np.testing.assert_allclose(
                cell_means(shown[int(index)]), means, atol=CHROMA.get(name, 2), err_msg=f"{name} frame {index}"
            )
