import contextlib
import itertools
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from mgmae_jax.data import decode
from mgmae_jax.data.decode import decode_frames, open_video, video_info
from mgmae_jax.errors import VideoError
from tests.shared_data import shared

VARIED_TIMES = list(itertools.accumulate([0] + [20, 35, 90, 41] * 12))

# One entry for each way in which containers and codecs order, stamp or hide their frames.
FORMATS = {
    "h264_b_frames.mp4": {"options": {"g": "12", "bf": "3"}},
    "h264_open_gop.mp4": {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1"}},
    "h264_b_frames.avi": {"options": {"g": "12", "bf": "2"}},
    "h264_b_frames.ts": {"options": {"g": "12", "bf": "3"}},
    "h264_fragments.mp4": {"options": {"g": "12", "bf": "3"}, "movflags": "frag_keyframe+empty_moov"},
    "h264.flv": {"options": {"g": "12", "bf": "2"}},
    "hevc.mp4": {"codec": "libx265", "options": {"g": "12", "x265-params": "log-level=none"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "vfr.mkv": {"options": {"g": "12", "bf": "2"}, "times": VARIED_TIMES},
    "vp8_hidden_frames.webm": {"codec": "libvpx", "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "cpu-used": "8"}},
    "every_frame_a_key.mkv": {"codec": "ffv1"},
}


def decode_all(path: Path) -> np.ndarray:
    frames = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.InvalidDataError):  # as at the start of a cut file
                frames += packet.decode()
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def assert_agrees_with_full_decoding(path: Path) -> None:
    everything = decode_all(path)
    count = len(everything)
    assert video_info(path).frames == count
    for wanted in ([0], [count - 1], [count // 2, count // 2, count // 2 + 3], [count // 3, count - 2], range(count)):
        np.testing.assert_array_equal(decode_frames(path, wanted), everything[list(wanted)], err_msg=f"{wanted}")


@pytest.mark.parametrize("name", FORMATS)
def test_seeking_agrees_with_full_decoding(name, make_video):
    assert_agrees_with_full_decoding(make_video(name, **FORMATS[name]))


@pytest.mark.parametrize(
    "name",
    [
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi",
        "BaseballPitch/v_BaseballPitch_g01_c01.avi",
        "Basketball/v_Basketball_g07_c04.mp4",
        "flipping_pancake/flipping_a_pancake.mkv",
        "ssv2_poking_something_so_that_it_falls_over/166766.mp4",
    ],
)
def test_seeking_agrees_with_full_decoding_of_real_clips(name):
    assert_agrees_with_full_decoding(shared("clips") / name)


@pytest.mark.parametrize("name", ["h264_b_frames.mp4", "h264_open_gop.mp4", "vfr.mkv", "mpeg4.avi", "vp9.webm"])
def test_only_the_stretch_from_the_keyframe_on_is_decoded(name, make_video, monkeypatch):
    path = make_video(name, **FORMATS[name])
    video_info(path)  # reads the timeline
    decoded = []
    frames_of = decode.frames_of

    def counted(*args):
        frames = frames_of(*args)
        decoded.extend(frames)
        return frames

    monkeypatch.setattr(decode, "frames_of", counted)
    decode_frames(path, [25, 27])
    assert 3 <= len(decoded) <= 12 + 4  # A group of pictures is 12 long; leading frames of an open one may come out.


def test_probe_reads_size_and_rate(make_video):
    info = video_info(make_video("a.mp4", 20, height=36, width=64))
    assert (info.frames, info.height, info.width, info.fps) == (20, 36, 64, 25.0)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_videos_stand_upright(rotation, make_video):
    upright = np.full((3, 32, 64, 3), 60, np.uint8)
    upright[:, :8, :8] = 250  # The mark belongs in the top left corner.
    stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90, axes=(1, 2)))
    path = make_video("a.mp4", frames=stored, rotation=rotation)
    info = video_info(path)
    frames = decode_frames(path, [0, 2])
    assert (info.height, info.width) == (32, 64)
    assert frames.shape == (2, 32, 64, 3)
    np.testing.assert_allclose(frames, upright[:2], atol=40)


def test_ten_bits_look_like_eight(make_video):
    noise = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), np.uint8)
    frames = noise.repeat(2, axis=1).repeat(2, axis=2)
    eight, ten = (
        decode_frames(make_video(f"{pix_fmt}.mkv", frames=frames, codec="ffv1", pix_fmt=pix_fmt), [0, 1]).astype(int)
        for pix_fmt in ("yuv420p", "yuv420p10le")
    )
    assert np.abs(eight - ten).mean() < 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 4000), (35, 33)])
def test_odd_sizes(height, width, make_video):
    path = make_video("a.mkv", 3, height=height, width=width, codec="ffv1", pix_fmt="bgr0")
    np.testing.assert_array_equal(decode_frames(path, [0, 2, 2]), decode_all(path)[[0, 2, 2]])


def test_a_video_of_one_frame(make_video):
    path = make_video("a.mp4", 1)
    assert video_info(path).frames == 1
    assert decode_frames(path, [0] * 16).shape == (16, 48, 64, 3)


def test_names_with_spaces_colons_and_accents(make_video, monkeypatch):
    path = make_video("http:été 1.mp4", 2)
    monkeypatch.chdir(path.parent)
    assert video_info(path.name).frames == 2


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "libx264"), ("a.webm", "libvpx-vp9")],
)
def test_a_truncated_file_gives_the_frames_that_it_still_has(name, codec, make_video, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    whole = make_video(name, frames=noise, codec=codec, options={"bf": "0", "g": "12"}, movflags="faststart")
    everything = decode_all(whole)
    part = tmp_path / f"part_{name}"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with open_video(part) as video:
        assert 10 < video.frames < 40
        wanted = [0, 5, video.frames - 2]
        np.testing.assert_array_equal(video.decode(wanted), everything[wanted])
    with pytest.raises(VideoError, match=r"frame 39 was requested, but it has \d+ frames"):
        decode_frames(part, [39])


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_what_is_no_video_says_so(tmp_path, make_video):
    def reason(path):
        errors = []
        for read in (video_info, lambda path: decode_frames(path, [0])):
            with pytest.raises(VideoError) as error:
                read(path)
            errors.append(error.value)
        assert {error.path for error in errors} == {str(path)}
        assert len({error.reason for error in errors}) == 1
        return errors[0].reason

    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20000))
    playlist = tmp_path / "playlist.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://localhost:9/a.ts\n#EXT-X-ENDLIST\n")
    cut = tmp_path / "cut.mp4"
    whole = make_video("whole.mp4").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])

    assert reason(tmp_path / "absent.mp4") == "no such file"
    assert reason(tmp_path).startswith("is a folder without frames")
    assert reason(tmp_path / "empty.mp4") == "is empty (0 bytes)"
    assert reason(write_sound(tmp_path / "sound.wav")) == "has no video stream (only audio)"
    for name in ("text.mp4", "noise.mp4", "cut.mp4"):
        assert reason(tmp_path / name).startswith("cannot be read as a video (")
    reason(playlist)
    reason(make_video("no_frames.mkv", 0))


@pytest.mark.parametrize("indices", [[], [-1], [3, 2]])
def test_indices_are_checked(indices, make_video):
    with pytest.raises(ValueError, match="indices="):
        decode_frames(make_video("a.mp4", 5), indices)


def test_a_video_that_vanishes_while_it_is_read(make_video, monkeypatch):
    path = make_video("a.mp4", 5)
    with open_video(path) as video:
        video.decode([0])
        shutil.move(path, path.with_suffix(".gone"))
        with pytest.raises(VideoError, match="cannot be read as a video"):
            video.decode([0])


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "turned.mp4"])
def test_the_stream_is_every_frame_in_order(make_video, name):
    path = make_video(name, 20, options={"g": "6"}, rotation=90 if name == "turned.mp4" else 0)
    with open_video(path) as video:
        streamed = np.stack(list(video.stream()))
    np.testing.assert_array_equal(streamed, decode_frames(path, range(20)))
