"""Which frames a file has, and when they are shown: edit lists, cuts, jumps in time, sizes, mirrors, and the cache."""

import dataclasses
import itertools
import logging
import os
import sqlite3
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mgmae_jax.data import decode
from mgmae_jax.data.decode import decode_frames, open_video, video_info
from mgmae_jax.data.timeline_cache import keep_timeline, kept_timeline
from mgmae_jax.errors import VideoError
from tests.data.conftest import moving_square, write_video
from tests.data.test_decode import assert_agrees_with_full_decoding, decode_all


def remux(source: Path, target: Path, keep=lambda number, packet: True) -> Path:
    """Copies the packets of a video that are to be kept, without decoding them."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(packet for packet in read.demux(video=0) if packet.size):
            if keep(number, packet):
                packet.stream = stream
                written.mux(packet)
    return target


def set_box(data: bytes, path: list[bytes], content: bytes) -> bytes:
    """Replaces the content of the first MP4 box at a path, and the sizes of those around it."""
    at = 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        if name == path[0]:
            inner = content if len(path) == 1 else set_box(data[at + 8 : at + size], path[1:], content)
            return data[:at] + struct.pack(">I4s", 8 + len(inner), name) + inner + data[at + size :]
        at += size
    raise ValueError(path[0])


def set_edits(video: Path, edits: list[tuple[int, int]]) -> Path:
    """Gives an MP4 file an edit list: (duration in milliseconds, first time in units of the track) of each segment."""
    table = b"".join(struct.pack(">IiI", duration, start, 0x10000) for duration, start in edits)
    box = struct.pack(">II", 0, len(edits)) + table
    video.write_bytes(set_box(video.read_bytes(), [b"moov", b"trak", b"edts", b"elst"], box))
    return video


def set_matrix(video: Path, a: int, b: int, c: int, d: int) -> Path:
    """Gives an MP4 file a display matrix: x' = ax + cy, y' = bx + dy."""
    data = video.read_bytes()
    at = data.index(b"tkhd") + 4 + 40
    one, two = 0x10000, 0x40000000
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, two)
    video.write_bytes(data[:at] + matrix + data[at + 36 :])
    return video


# Display matrix and what it does to an image.
MATRICES = {
    "upright": ((1, 0, 0, 1), lambda image: image),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "upside down mirrored": ((1, 0, 0, -1), lambda image: image[::-1]),
    "half turn": ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
    "quarter turn clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "quarter turn counter-clockwise": ((0, -1, 1, 0), lambda image: np.rot90(image)),
    "transposed": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_display_matrix_is_followed(name, make_video):
    matrix, shown = MATRICES[name]
    path = set_matrix(make_video("a.mp4", 4), *matrix)
    expected = [np.ascontiguousarray(shown(image)) for image in decode_all(path)]
    with open_video(path) as video:
        assert video.frame_size == expected[0].shape[:2]
        np.testing.assert_array_equal(list(video.stream()), expected)
    np.testing.assert_array_equal(decode_frames(path, range(4)), expected)
    info = video_info(path)
    assert (info.height, info.width) == expected[0].shape[:2]


# In milliseconds and units of 1/12800 s: a frame lasts 512. Keyframes are at 0, 12, 24, ...
EDITS = {
    "a start within a group": [(1000, 512 * 5 + 1024)],
    "two segments": [(600, 1024), (400, 512 * 20 + 1024)],
    "two segments, the second begins between frames": [(600, 1024), (520, 512 * 17 + 1124)],
    "the second segment first": [(400, 512 * 24 + 1024), (400, 1024)],
    "a segment twice": [(400, 512 * 6 + 1024), (400, 512 * 6 + 1024)],
    "a pause, then a segment": [(300, -1), (600, 512 * 3 + 1024)],
}


@pytest.mark.parametrize("name", EDITS)
def test_edit_lists(name, make_video):
    path = set_edits(make_video("a.mp4", 40, options={"g": "12", "bf": "3"}), EDITS[name])
    assert_agrees_with_full_decoding(path)
    everything = decode_all(path)
    for index, image in enumerate(everything):
        np.testing.assert_array_equal(decode_frames(path, [index])[0], image)


@pytest.mark.parametrize("name", ["cut.mkv", "cut.ts", "cut.mp4"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_cut_at_an_open_group_begins_with_its_first_whole_frame(name, codec, make_video, tmp_path):
    open_group = "open-gop=1:log-level=none" if codec == "libx265" else "open-gop=1"
    options = {"g": "12", "bf": "3", codec.removeprefix("lib") + "-params": open_group}
    whole = make_video("whole.ts" if name == "cut.ts" else "whole.mkv", 40, codec=codec, options=options)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    following = itertools.pairwise(packets)
    cut = next(i for i, (one, two) in enumerate(following) if i and one.is_keyframe and two.pts < one.pts)
    path = remux(whole, tmp_path / name, keep=lambda number, packet: number >= cut)
    assert 10 < len(decode_all(path)) < 40 - cut, "the leading frames are in the file, and are not shown"
    assert_agrees_with_full_decoding(path)


@pytest.mark.parametrize("name", ["middle.ts", "middle.mkv", "middle.avi"])
def test_a_recording_that_begins_within_a_group(name, make_video, tmp_path):
    whole = make_video("whole.avi" if name == "middle.avi" else "whole.ts", 40, options={"g": "12", "bf": "3"})
    path = remux(whole, tmp_path / name, keep=lambda number, packet: number >= 5)
    assert len(decode_all(path)) < 35
    assert_agrees_with_full_decoding(path)


def test_recordings_one_after_another_in_a_file_are_shown_in_the_order_of_the_file(make_video):
    parts = [make_video(f"{i}.ts", frames=moving_square(20, 48, 64)[::order]) for i, order in enumerate((1, -1))]
    path = parts[0].with_name("both.ts")
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    assert video_info(path).frames == 40
    assert_agrees_with_full_decoding(path)


def test_frames_of_another_size_are_scaled_to_the_first(make_video):
    flat = [np.full((10, *size, 3), 30 + 90 * i, np.uint8) for i, size in enumerate([(48, 64), (96, 128), (48, 32)])]
    parts = [make_video(f"{i}.ts", frames=frames) for i, frames in enumerate(flat)]
    path = parts[0].with_name("all.ts")
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = decode_frames(path, range(30))
    assert frames.shape == (30, 48, 64, 3)
    np.testing.assert_allclose(frames[:, 24, 32].mean(1), np.repeat([30, 120, 210], 10), atol=3)
    for index in range(30):
        np.testing.assert_array_equal(decode_frames(path, [index])[0], frames[index])


def test_the_video_is_read_and_not_the_still_picture_before_it(make_video, tmp_path):
    video = make_video("video.mkv", 30)
    with av.open(str(tmp_path / "both.mkv"), "w") as written, av.open(str(video)) as read:
        picture = written.add_stream("mjpeg", rate=25)
        picture.height, picture.width, picture.pix_fmt = 20, 20, "yuvj420p"
        copied = written.add_stream_from_template(read.streams.video[0])
        image = av.VideoFrame.from_ndarray(np.zeros((20, 20, 3), np.uint8), format="rgb24")
        written.mux(picture.encode(image))
        written.mux(picture.encode(None))
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = copied
                written.mux(packet)
    np.testing.assert_array_equal(decode_frames(tmp_path / "both.mkv", range(30)), decode_all(video))


def test_the_video_is_read_and_not_the_still_picture_that_is_to_be_shown(tmp_path):
    frames = moving_square(20, 48, 64)
    path = tmp_path / "both.mov"
    with av.open(str(path), "w") as written:
        picture = written.add_stream("png", rate=25)
        picture.height, picture.width, picture.pix_fmt = 96, 96, "rgb24"
        video = written.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        written.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((96, 96, 3), np.uint8), format="rgb24")))
        for image in frames:
            written.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        written.mux(picture.encode(None))
        written.mux(video.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.best("video").index == 0
    decoded = decode_frames(path, range(20))
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 10


def test_a_cover_picture_alone_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as written:
        cover = written.add_stream("mjpeg", rate=25)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        written.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        written.mux(cover.encode(None))
    with pytest.raises(VideoError, match=r"song\.mp4: has no video stream \(only a cover picture\)"):
        video_info(path)


# What EXIF calls the orientation, and how often the image is turned counter-clockwise to stand upright.
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_cameras_that_write_exif_into_their_frames(orientation, turns, tmp_path):
    tags = struct.pack("<2sHI HHHII I", b"II", 42, 8, 1, 0x112, 3, 1, orientation, 0)
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(tags)) + b"Exif\0\0" + tags
    pictures = [cv2.imencode(".jpg", image)[1].tobytes() for image in moving_square(5, 48, 64)]
    plain, turned = tmp_path / "plain.mjpeg", tmp_path / "turned.mjpeg"
    plain.write_bytes(b"".join(pictures))
    turned.write_bytes(b"".join(picture[:2] + segment + picture[2:] for picture in pictures))
    upright = [np.rot90(image, turns) for image in decode_frames(plain, range(5))]
    np.testing.assert_array_equal(decode_frames(turned, range(5)), upright)
    assert video_info(turned).width == upright[0].shape[1]


class TestCache:
    def test_a_file_is_demuxed_once(self, make_video, monkeypatch):
        path = make_video("a.mp4", 30, options={"g": "6"})
        expected = decode_frames(path, [0, 14, 29])
        monkeypatch.setattr(decode, "read_timeline", lambda *_: pytest.fail("read again"))
        np.testing.assert_array_equal(decode_frames(path, [0, 14, 29]), expected)
        assert video_info(path).frames == 30

    @pytest.mark.parametrize("name", ["turned.mp4", "two_sizes.ts", "guessed.avi"])
    def test_what_is_kept_is_all_of_it(self, name, make_video):
        if name == "turned.mp4":
            path = set_matrix(make_video(name, 9, options={"g": "3"}), 0, 1, 1, 0)
        elif name == "guessed.avi":
            path = make_video(name, 9, codec="mpeg4", options={"bf": "2"})
        else:
            path = make_video(name, 9)
            path.write_bytes(path.read_bytes() + make_video("b.ts", 9, height=24, width=32).read_bytes())
        assert kept_timeline(str(path)) is None
        with open_video(path) as first, open_video(path) as second:
            assert kept_timeline(str(path)) is not None
            assert (first.frames, first.frame_size) == (second.frames, second.frame_size)
            np.testing.assert_array_equal(first.decode([0, 5, 8]), second.decode([0, 5, 8]))

    def test_a_changed_file_is_read_again(self, make_video):
        path = make_video("a.mp4", 30)
        assert video_info(path).frames == 30
        make_video("a.mp4", 12)
        assert video_info(path).frames == 12
        before = path.stat()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert kept_timeline(str(path)) is None

    @pytest.mark.parametrize("cache", ["a file", "damaged", "of another form", "without a home"])
    def test_videos_are_read_without_it(self, cache, make_video, tmp_path, monkeypatch):
        folder = tmp_path / "cache"
        monkeypatch.setenv("MGMAE_CACHE", str(folder))
        path = make_video("a.mp4", 20)
        if cache == "a file":
            folder.touch()
        elif cache == "damaged":
            folder.mkdir()
            (folder / "timelines.sqlite").write_bytes(b"no data base " * 1000)
        elif cache == "of another form":
            folder.mkdir()
            with sqlite3.connect(folder / "timelines.sqlite") as connection:
                connection.execute("CREATE TABLE timelines (other TEXT)")
        else:
            monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
            monkeypatch.delenv("MGMAE_CACHE")
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        np.testing.assert_array_equal(decode_frames(path, [3, 19]), decode_all(path)[[3, 19]])

    @pytest.mark.parametrize("part", ["head", "pages"])
    def test_a_damaged_file_is_replaced_and_told_of_once(self, part, make_video, tmp_path, monkeypatch, caplog):
        monkeypatch.setenv("MGMAE_CACHE", str(tmp_path / "cache"))
        file = tmp_path / "cache" / "timelines.sqlite"
        paths = [str(make_video(f"{i}.mp4", 9)) for i in range(2)]
        with open_video(paths[0]) as video:
            timeline = video.timeline
        long = dataclasses.replace(timeline, shown=np.random.default_rng(0).integers(0, 2**62, 4000))

        def in_another_thread(function, *args):  # with a connection of its own, as that of another process
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(function, *args).result()

        def use():
            for path in paths:
                assert kept_timeline(path) is None
                keep_timeline(path, timeline)
                assert kept_timeline(path).frames == 9

        for path in paths:
            in_another_thread(keep_timeline, path, long)
        content = file.read_bytes()
        file.write_bytes(b"no data base " * 1000 if part == "head" else content[:100] + b"\xff" * (len(content) - 100))
        with caplog.at_level(logging.WARNING, "absl"):
            in_another_thread(use)
        (message,) = caplog.messages
        assert message.startswith(f"{file}: is damaged (")
        with sqlite3.connect(file) as connection:
            assert connection.execute("SELECT count(*) FROM timelines").fetchone() == (2,)

    @pytest.mark.parametrize("numbers", [b"", b"\0" * 5, b"x" * 400])
    def test_a_damaged_entry_is_read_again(self, numbers, make_video, monkeypatch, tmp_path):
        monkeypatch.setenv("MGMAE_CACHE", str(tmp_path / "cache"))
        path = make_video("a.mp4", 20)
        decode_frames(path, [0])
        with sqlite3.connect(tmp_path / "cache" / "timelines.sqlite") as connection:
            connection.execute("UPDATE timelines SET numbers = ?", (numbers,))
        assert video_info(path).frames == 20
        assert kept_timeline(str(path)).frames == 20

    def test_names_that_are_not_text(self, tmp_path):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
        write_video(path.with_name("a.mp4"), 8)
        path.with_name("a.mp4").rename(path)
        assert video_info(path).frames == 8
        assert kept_timeline(str(path)).frames == 8
