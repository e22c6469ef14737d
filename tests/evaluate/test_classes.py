import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.data.sources import LabelledVideos, VideoList
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.evaluate.classes import (
    MAX_CLASSES,
    check_numbers,
    class_names,
    count_classes,
    match_classes,
    name_classes,
    read_classes,
    read_names,
    write_classes,
)

CLASSES = ("catch", "jump", "run", "throw")
NUMBERS = ("0", "1", "2", "3")


def test_names_are_matched_whatever_their_order_in_the_list():
    videos = VideoList(("a", "b", "c"), (0, 1, 1), ("jump", "throw"))  # a list without the other classes
    assert match_classes(videos, CLASSES, "list.csv") == LabelledVideos(("a", "b", "c"), (1, 3, 3), CLASSES)


@pytest.mark.parametrize(
    ("classes", "labels", "names", "found"),
    [
        (NUMBERS, (2, 0), None, (2, 0)),  # trained and evaluated on numbers
        (NUMBERS, (0, 1), ("1", "3"), (1, 3)),  # evaluated on folders named by numbers
        (("0", "1", "10", "2"), (2, 10), None, (3, 2)),  # trained on such folders, in the order of text
        (("0", "5", "10"), (5, 10), None, (1, 2)),  # with gaps
        (("1", "2", "3"), (3, 1), None, (2, 0)),  # counted from 1
        (("007", "008"), (8, 7), None, (1, 0)),
        (("7", "007"), (7,), None, (0,)),  # the same text before the same value
        (NUMBERS, (0,), ("003",), (3,)),
        (("-1", "1"), (-1,), None, (0,)),
        (("3", "run"), (3,), None, (0,)),
        (("30000000", "99999999999999999999"), (99999999999999999999,), None, (1,)),
    ],
)
def test_numbers_are_matched_with_the_classes_called_so(classes, labels, names, found):
    paths = tuple(f"{i}.mp4" for i in range(len(labels)))
    assert match_classes(VideoList(paths, labels, names), classes, "list.csv").labels == found


@given(st.lists(st.integers(0, 300), min_size=1, unique=True), st.randoms())
def test_a_list_of_numbers_and_folders_named_by_them_are_labelled_alike(values, random):
    classes = [str(value) for value in values]
    random.shuffle(classes)
    paths = tuple(f"{value}.mp4" for value in values)
    numbers = match_classes(VideoList(paths, tuple(values)), tuple(classes), "list.csv")
    named = match_classes(VideoList(paths, tuple(range(len(values))), tuple(map(str, values))), tuple(classes), "x")
    assert numbers == named
    assert [classes[label] for label in numbers.labels] == [str(value) for value in values]


def test_names_are_the_same_composed_and_decomposed():
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for inside, trained in ((composed, decomposed), (decomposed, composed)):
        assert match_classes(VideoList(("a",), (0,), (inside,)), ("bar", trained), "list.csv").labels == (1,)


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (VideoList((), ()), r"list\.csv: holds no video"),
        (VideoList(("a.mp4",)), r"a\.mp4: has no label. Every video of list\.csv needs one"),
        (
            VideoList(("a.mp4", "b.mp4"), (0, 2)),
            r"^list\.csv has numbers, the model's classes are catch, jump, run, throw: name .* \(path,catch\)",
        ),
        (VideoList(("a.mp4",), (0,), ("jumps",)), r"not trained on: jumps \(did you mean 'jump'\?\)\. The model's 4"),
    ],
)
def test_what_cannot_be_matched_is_told(videos, message):
    with pytest.raises(MgmaeError, match=message):
        match_classes(videos, CLASSES, "list.csv")


@pytest.mark.parametrize(
    ("classes", "videos", "message"),
    [
        (NUMBERS, VideoList(("a.mp4", "b.mp4"), (0, 4)), r"b\.mp4: has label 4 in list\.csv; the model knows 0 to 3"),
        (NUMBERS, VideoList(("a.mp4",), (-1,)), r"a\.mp4: has label -1 in list\.csv; the model knows 0 to 3"),
        (NUMBERS, VideoList(("a.mp4",), (10**20,)), r"a\.mp4: has label 100000000000000000000 in list\.csv; the model"),
        (("2", "5"), VideoList(("a.mp4",), (3,)), r"a\.mp4: has label 3 in list\.csv; the model knows 2, 5"),
        (NUMBERS, VideoList(("a.mp4",), (0,), ("run",)), r"not trained on: run\. The model's 4 are 0, 1, 2, 3"),
        (("7", "007"), VideoList(("a.mp4",), (0,), ("07",)), r"class '07', which may be the model's '7' or '007'"),
        (
            ("run", "jump", "run"),
            VideoList(("a.mp4",), (0,), ("run",)),
            r"class 'run', .* to the classes 0 and 2: rename",
        ),
    ],
)
def test_what_a_model_of_numbers_does_not_know_is_told(classes, videos, message):
    with pytest.raises(MgmaeError, match=message):
        match_classes(videos, classes, "list.csv")


def test_videos_beside_class_folders_are_named(tmp_path):
    paths = [tmp_path / name for name in ("jump/0.mp4", "run/1.mp4", "zz_intro.mp4")]
    videos = VideoList(tuple(map(str, paths)))
    for match in (match_classes, name_classes):
        with pytest.raises(FileError, match=rf"^{tmp_path}/: zz_intro\.mp4 lies at the top, beside folders") as told:
            match(videos, CLASSES, f"{tmp_path}/")
        assert "0.mp4" not in str(told.value)


def test_videos_without_labels_may_stay_without(tmp_path):
    for source in (str(tmp_path), "list.csv"):
        videos = VideoList((str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")))
        assert name_classes(videos, CLASSES, source) == VideoList(videos.paths, None, CLASSES)
    assert name_classes(VideoList(("a",), (0,), ("run",)), CLASSES, "list.csv").labels == (2,)


def test_names_of_a_new_head():
    videos = VideoList(("a", "b"), (0, 1), ("jump", "run"))
    assert class_names(videos, 2) == ("jump", "run")
    assert class_names(VideoList(("a",), (1,)), 3) == ("0", "1", "2")
    with pytest.raises(ConfigError, match=r"config\.model\.classes=3: give the number .* which is 2 \(jump, run\)"):
        class_names(videos, 3)


def test_classes_may_have_no_video():
    videos = VideoList(("a", "b", "c"), (0, 5, 10))
    assert class_names(videos, 11) == tuple(str(i) for i in range(11)) == class_names(videos, 174)[:11]
    folders = VideoList(("a", "b", "c"), (0, 1, 2), ("0", "5", "10"))
    assert class_names(folders, 3) == ("0", "5", "10")
    assert class_names(folders, 174) == tuple(str(i) for i in range(174))
    assert match_classes(folders, class_names(folders, 174), "x").labels == (0, 5, 10)


@pytest.mark.parametrize(
    ("videos", "count", "message"),
    [
        (VideoList(("a", "b"), (0, 10)), 3, r"config\.model\.classes=3: give 11: labels of list\.csv go to 10\."),
        (
            VideoList(("a", "b"), (1, 3)),
            3,
            r"classes=3: give 4: labels .* go to 3 \(or count from 0: they start at 1\)",
        ),
        (VideoList(("a", "b"), (0, 1), ("0", "5")), 4, "which is 2 .* label the videos by numbers"),
        (VideoList(("a", "b"), (0, 1), ("0", "5")), 1, r"which is 2 \(0, 5\)\."),
        (VideoList(("a",), (30000000,)), 3, r"a: has label 30000000 in list\.csv: a label is .* from 0 to 9999"),
        (VideoList(("a",), (10**20,)), 10**21, "a: has label 100000000000000000000 in"),
        (VideoList(("a",), (-1,)), 3, "a: has label -1 in list"),
        (VideoList(("a",), (1,)), 30000000, r"config\.model\.classes=30000000: give 10000 or fewer"),
    ],
)
def test_a_head_that_does_not_fit_is_told_once(videos, count, message):
    with pytest.raises(MgmaeError, match=message):
        class_names(videos, count, "list.csv")


def test_classes_are_counted_by_names_or_numbers():
    assert count_classes(VideoList(("a", "b"), (0, 1), ("jump", "run")), "list.csv") == 2
    assert count_classes(VideoList(("a", "b"), (0, 173)), "list.csv") == 174
    with pytest.raises(FileError, match=r"b: has label 9999 in list\.csv, a list of 2 videos: is it an id\?"):
        count_classes(VideoList(("a", "b"), (0, 9999)), "list.csv")
    many = tuple(map(str, range(MAX_CLASSES + 1)))
    with pytest.raises(
        FileError, match=r"list\.csv: has 10001 classes \(0, 1, 2, 3, 4 and 9996 more\), more than 10000"
    ):
        check_numbers(VideoList(many, tuple(range(len(many))), many), "list.csv")


@given(st.lists(st.binary(min_size=1), min_size=1))
def test_any_name_of_a_folder_comes_back(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("classes") / "classes.json"
    write_classes(path.parent, [os.fsdecode(name) for name in names])
    assert [os.fsencode(name) for name in read_names(path)] == names


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
