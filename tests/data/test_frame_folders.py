from pathlib import Path

import cv2
import numpy as np
import pytest

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.decode import Item, decode_frames, open_video, video_info
from mgmae_jax.data.encode import Encoding
from mgmae_jax.data.finetune_clips import Augmentation, labelled_batches
from mgmae_jax.data.flow_places import flow_place
from mgmae_jax.data.frame_folders import FrameFolders, Frames
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.record_writer import record_values
from mgmae_jax.data.sources import LabelledVideos, read_source
from mgmae_jax.errors import FileError, VideoError


def write_frames(
    folder: Path, count: int, first: int = 1, pattern: str = "img_{:05}.png", size=(24, 32), value: int = 0
) -> Path:
    """Pictures whose red is their place in the video, and `value` more."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = np.full((*size, 3), (10, 200, value + i), np.uint8)  # blue, green, red
        assert cv2.imwrite(str(folder / pattern.format(first + i)), image)
    return folder


def reds(frames: np.ndarray) -> list[int]:
    return frames[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("pattern", ["img_{:05}.png", "image_{:06}.bmp", "{}.png", "frame-{:03}.PNG"])
def test_a_folder_of_frames_is_a_video(tmp_path, pattern):
    folder = write_frames(tmp_path / "a", 12, pattern=pattern)
    assert video_info(folder) == video_info(str(folder))
    assert (video_info(folder).frames, video_info(folder).height, video_info(folder).width) == (12, 24, 32)
    frames = decode_frames(folder, [0, 3, 3, 11])
    assert reds(frames) == [0, 3, 3, 11]
    assert frames[0, 0, 0].tolist() == [0, 200, 10]
    with open_video(folder) as video:
        assert [frame[0, 0, 0] for frame in video.stream()] == list(range(12))


def test_optical_flow_beside_the_frames_is_left_alone(tmp_path):
    folder = write_frames(tmp_path / "a", 3)
    for axis in "xy":
        write_frames(folder, 2, pattern=f"flow_{axis}_{{:05}}.png")
    assert video_info(folder).frames == 3


def test_frames_of_other_sizes_are_scaled_to_the_first(tmp_path):
    folder = write_frames(tmp_path / "a", 2)
    write_frames(folder, 1, first=3, size=(48, 64))
    assert decode_frames(folder, [0, 2]).shape == (2, 24, 32, 3)


def test_some_of_the_frames_are_a_video(tmp_path):
    folder = str(write_frames(tmp_path / "a", 10))
    opener = FrameFolders({folder: Frames(folder, 4, 5)})
    assert video_info(Item(folder, opener)).frames == 5
    assert reds(decode_frames(Item(folder, opener), [0, 4])) == [3, 7]
    with pytest.raises(VideoError, match=r"2 frames are missing, the first is number 11 \(frames 8 to 12 are listed"):
        video_info(Item(folder, FrameFolders({folder: Frames(folder, 8, 5)})))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), r"frame 1 is not a picture, or damaged \(img_00002\.png\)"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n" + b"x" * 50), "frame 1 is not a picture"),
        (lambda path: (path.unlink(), path.mkdir()), r"frame 1 cannot be read \(img_00002\.png: "),
    ],
)
def test_a_broken_frame_is_named(tmp_path, damage, message):
    folder = write_frames(tmp_path / "a", 3)
    damage(folder / "img_00002.png")
    assert reds(decode_frames(folder, [0, 2])) == [0, 2]
    with pytest.raises(VideoError, match=message):
        decode_frames(folder, [0, 1])
    with pytest.raises(VideoError, match="frame 3 was requested, but it has 3"):
        decode_frames(folder, [3])


def test_a_folder_that_is_no_video_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="is a folder without frames"):
        video_info(tmp_path / "empty")
    write_frames(write_frames(tmp_path / "two", 2), 2, pattern="left_{}.png")
    with pytest.raises(VideoError, match=r"has pictures of several kinds \(img_00001\.png, left_1\.png\)"):
        video_info(tmp_path / "two")


def test_folders_of_frames_are_found_with_their_classes(tmp_path):
    for name in ("jump/a", "jump/b", "run/c"):
        write_frames(tmp_path / name, 3)
    (tmp_path / "run/c/notes.txt").touch()
    videos = read_source(tmp_path)
    assert videos.names() == ("jump/a", "jump/b", "run/c")
    assert (videos.labels, videos.class_names) == ((0, 0, 1), ("jump", "run"))
    assert reds(decode_frames(videos.item(2), [2])) == [2]
    with pytest.raises(FileError, match="is itself a folder of frames"):
        read_source(tmp_path / "run/c")


@pytest.fixture
def frames_root(tmp_path) -> Path:
    for i, count in enumerate((6, 9)):
        write_frames(tmp_path / f"frames/{i}", count)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "labels", "counts", "first_reds"),
    [
        ("frames/0 1 6\nframes/1 3 7\n", None, [6, 7], [0, 2]),
        ("frames/0,2,3\nframes/1,1,9\n", None, [3, 9], [1, 0]),
        ("frames/0 6 1\nframes/1 9 0\n", (1, 0), [6, 9], [0, 0]),
        ("frames/0 6 6\nframes/1 9 140\n", (6, 140), [6, 9], [0, 0]),
        ("frames/0,jump\nframes/1,run\n", (0, 1), [6, 9], [0, 0]),
        ("frames/0\nframes/1\n", None, [6, 9], [0, 0]),
    ],
)
def test_lists_of_folders_of_frames(frames_root, text, labels, counts, first_reds):
    (frames_root / "list.csv").write_text(text)
    videos = read_source(frames_root / "list.csv")
    assert videos.labels == labels
    items = [videos.item(i) for i in range(2)]
    assert [video_info(item).frames for item in items] == counts
    assert [reds(decode_frames(item, [0]))[0] for item in items] == first_reds


def test_a_list_may_hold_videos_and_folders_of_frames(frames_root, make_video):
    make_video("a.mp4", 8)
    (frames_root / "list.csv").write_text("a.mp4 0 -1\nframes/0 1 6\n")
    videos = read_source(frames_root / "list.csv")
    assert [video_info(videos.item(i)).frames for i in range(2)] == [8, 6]
    assert videos.item(0) == str(frames_root / "a.mp4")  # a path, whose timeline is kept


def test_stretches_of_one_folder_are_videos_of_their_own(frames_root):
    """As AVA's are in the lists of VideoMAE V2."""
    (frames_root / "list.csv").write_text("frames/1 1 4\nframes/0 1 6\nframes/1 5 5\n")
    videos = read_source(frames_root / "list.csv")
    assert videos.names() == ("1[1:5]", "0[1:7]", "1[5:10]")
    assert [video_info(videos.item(i)).frames for i in range(3)] == [4, 6, 5]
    assert reds(decode_frames(videos.alone(2), [0, 4])) == [4, 8]


def test_stretches_of_a_folder_in_several_lists_have_names_of_their_own(frames_root):
    stretches = {"1[1:5]": "frames/1 1 4\n", "1[5:10]": "frames/1 5 5\n", "1[1:10]": "frames/1 1 9\n"}
    digests, places = set(), set()
    for name, text in stretches.items():
        (frames_root / "list.csv").write_text(text)
        videos = read_source(frames_root / "list.csv")
        assert videos.names() == (name,)
        digests.add(videos.digest())
        places.add(flow_place(videos.item(0)))
    assert len(digests) == len(places) == len(stretches)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frames/0 9 9\n", r"line 1: is neither `folder start total` nor `folder total label` .*\(it has 6, 1 to 6\)"),
    ],
)
def test_a_list_that_does_not_fit_its_folders_is_refused(frames_root, text, message):
    (frames_root / "list.csv").write_text(text)
    with pytest.raises(FileError, match=message):
        read_source(frames_root / "list.csv")


def test_numbers_that_fit_both_ways_are_refused(tmp_path):
    write_frames(tmp_path / "a", 3, first=3)  # frames 3 to 5
    (tmp_path / "list.csv").write_text("a 3 3\n")
    with pytest.raises(FileError, match="may be `folder start total` or `folder total label`"):
        read_source(tmp_path / "list.csv")


def test_folders_of_frames_are_trained_on(frames_root):
    (frames_root / "list.csv").write_text("frames/0 6 1\nframes/1 9 0\n")
    listed = read_source(frames_root / "list.csv")
    videos = LabelledVideos(listed.paths, listed.labels, ("a", "b"), listed.opener)
    with labelled_batches(
        videos, ClipSpec(4, 1, 16), "uniform", Augmentation(), BatchSpec(2, 1, 3, 0), start_step=0, on_bad=pytest.fail
    ) as batches:
        batch = next(batches)
    assert batch["clip"].shape == (2, 4, 16, 16, 3)
    assert sorted(batch["label"].tolist()) == [0, 1]


def test_a_folder_of_frames_becomes_a_record(tmp_path):
    values = record_values(str(write_frames(tmp_path / "a", 7)), "a", 0, Encoding(16, 2))
    assert [values[name] for name in ("frames", "fps", "height", "width")] == [7, 25.0, 16, 22]


def test_two_pictures_of_one_number_are_named(tmp_path):
    folder = write_frames(write_frames(tmp_path / "a", 3, pattern="{}.png"), 1, pattern="{:02}.png")
    for axis in ("{}", "{:02}"):
        write_frames(folder, 1, pattern=f"flow_x_{axis}.png")  # left alone, as all flow
    with pytest.raises(VideoError, match=r"a: has two pictures of one number \(01\.png and 1\.png\): rename one, or"):
        video_info(folder)
    (folder / "01.png").unlink()
    assert video_info(folder).frames == 3
