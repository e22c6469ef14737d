import pytest

from mgmae_jax.data.sources import LabelledVideos, VideoList
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.evaluate.classes import class_names, match_classes, read_classes, write_classes

CLASSES = ("catch", "jump", "run", "throw")


def test_names_are_matched_whatever_their_order_in_the_list():
    videos = VideoList(("a", "b", "c"), (0, 1, 1), ("jump", "throw"))  # a list without the other classes
    assert match_classes(videos, CLASSES, "list.csv") == LabelledVideos(("a", "b", "c"), (1, 3, 3), CLASSES)


def test_numbers_are_taken_as_they_are():
    assert match_classes(VideoList(("a",), (2,)), CLASSES, "list.csv").labels == (2,)


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (VideoList((), ()), r"list\.csv: holds no video"),
        (VideoList(("a.mp4",)), r"a\.mp4: has no label. Every video of list\.csv needs one"),
        (VideoList(("a.mp4", "b.mp4"), (0, 4)), r"b\.mp4: has label 4 in list\.csv; the model knows 0 to 3"),
        (VideoList(("a.mp4",), (-1,)), r"a\.mp4: has label -1"),
        (VideoList(("a.mp4",), (0,), ("jumps",)), r"not trained on: jumps \(did you mean 'jump'\?\)\. The model's 4"),
    ],
)
def test_what_cannot_be_matched_is_told(videos, message):
    with pytest.raises(MgmaeError, match=message):
        match_classes(videos, CLASSES, "list.csv")


def test_names_of_a_new_head():
    videos = VideoList(("a", "b"), (0, 1), ("jump", "run"))
    assert class_names(videos, 2) == ("jump", "run")
    assert class_names(VideoList(("a",), (1,)), 3) == ("0", "1", "2")
    with pytest.raises(ConfigError, match=r"config\.model\.classes=3: give the number .* which is 2 \(jump, run\)"):
        class_names(videos, 3)


def test_classes_lie_with_the_run(tmp_path):
    (tmp_path / "checkpoints" / "7" / "state").mkdir(parents=True)
    with pytest.raises(FileError, match=r"no classes\.json above this checkpoint"):
        read_classes(tmp_path)
    write_classes(tmp_path, ("Öffnen", "jump"))
    assert read_classes(tmp_path) == read_classes(tmp_path / "checkpoints" / "7") == ("Öffnen", "jump")


@pytest.mark.parametrize("content", ["{}", "[]", "[1, 2]", "no"])
def test_what_is_no_list_of_classes_is_told(tmp_path, content):
    (tmp_path / "checkpoints" / "7" / "state").mkdir(parents=True)
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(FileError, match=r"classes\.json: cannot be read as the classes of a run"):
        read_classes(tmp_path)
