import json
import shutil

import pytest

from mgmae_jax.data.sources import VideoList
from mgmae_jax.datasets.listed import own_split
from mgmae_jax.datasets.official import OFFICIAL, find_official, read_official, size_notes
from mgmae_jax.errors import FileError, MgmaeError
from tests.datasets.fakes import CLASSES, SSV2_CLASSES


def first_variant(name):
    return OFFICIAL[name].variants[0]


@pytest.mark.parametrize(
    ("name", "counts", "first", "classes"),
    [
        ("something_something_v2", {"train": 15, "validation": 1, "test": 4}, "78000.webm", tuple(SSV2_CLASSES)),
        (
            "kinetics",
            {"train": 14, "validation": 4},
            "-000aBcDe_f_000000_000010.mp4",
            ("abseiling", "air drumming", "playing harmonica", "zumba"),
        ),
        ("ucf101_videos", {"train": 16, "test": 4}, "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", CLASSES),
        (
            "hmdb51",
            {"train": 12, "test": 4},
            "brush_hair/April_00_brush_hair_u_nm_np1_ba_goo_0.avi",
            ("brush_hair", "cartwheel", "catch", "wave"),
        ),
    ],
)
def test_a_data_set_is_read_as_its_authors_lay_it_out(fakes, name, counts, first, classes):
    found = read_official(fakes[name], name, first_variant(name))
    assert {split: len(listed.names) for split, listed in found.items()} == counts
    train = found["train"]
    assert train.names[0] == first
    assert train.classes == classes
    for split in found.values():
        names = [split.classes[label] for label in split.videos.labels]
        assert all(path.endswith(video) for path, video in zip(split.videos.paths, split.names, strict=True))
        if name in ("ucf101_videos", "hmdb51"):
            assert names == [video.partition("/")[0] for video in split.names]


def test_something_is_labelled_by_its_template(fakes):
    root = fakes["something_something_v2"]
    rows = json.loads((root / "labels/train.json").read_text())
    train = read_official(root, "something_something_v2", "")["train"]
    assert [train.classes[label] for label in train.videos.labels] == [
        row["template"].replace("[", "").replace("]", "") for row in rows
    ]


def test_without_answers_the_test_split_has_no_labels(fakes, tmp_path):
    root = shutil.copytree(fakes["something_something_v2"], tmp_path / "some")
    (root / "labels/test-answers.csv").unlink()
    test = read_official(root, "something_something_v2", "")["test"]
    assert test.videos.labels is None
    assert test.classes == ()


def test_kinetics_lists_what_has_vanished(fakes):
    train = read_official(fakes["kinetics"], "kinetics", "400")["train"]
    assert train.missing == ("-005aBcDe_f_000015_000025", "-017aBcDe_f_000051_000061")
    assert train.listed == 16


def test_kinetics_finds_videos_in_folders_by_class_and_by_the_id_alone(fakes, tmp_path):
    root = shutil.copytree(fakes["kinetics"], tmp_path / "some")
    (root / "train/abseiling").mkdir()
    (root / "train/-000aBcDe_f_000000_000010.mp4").rename(root / "train/abseiling/-000aBcDe_f_000000_000010.mp4")
    (root / "train/-001aBcDe_f_000003_000013.mp4").rename(root / "train/-001aBcDe_f.mkv")
    names = read_official(root, "kinetics", "400")["train"].names
    assert names[:3] == ("abseiling/-000aBcDe_f_000000_000010.mp4", "-001aBcDe_f.mkv", "-002aBcDe_f_000006_000016.mp4")


def test_of_several_clips_of_one_youtube_video_each_needs_its_own_file(fakes, tmp_path):
    root = shutil.copytree(fakes["kinetics"], tmp_path / "some")
    listed = root / "annotations/train.csv"
    # As in Kinetics-600; the one that is there must not stand in for the other, which has another class.
    listed.write_text(listed.read_text() + "zumba,-000aBcDe_f,100,110,train,0\n")
    train = read_official(root, "kinetics", "600")["train"]
    assert train.missing[-1] == "-000aBcDe_f_000100_000110"
    assert len(set(train.names)) == len(train.names) == 14
    (root / "train/-000aBcDe_f_000000_000010.mp4").rename(root / "train/-000aBcDe_f.mp4")  # it may be either
    assert len(read_official(root, "kinetics", "600")["train"].names) == 13


def repeated(root, name, change=lambda line: line):
    """Repeats the first video of the training split, changed."""
    files = {
        "something_something_v2": "labels/train.json",
        "kinetics": "annotations/train.csv",
        "ucf101_videos": "ucfTrainTestlist/trainlist01.txt",
        "hmdb51": "testTrainMulti_7030_splits/brush_hair_test_split1.txt",
    }
    path = root / files[name]
    if path.suffix == ".json":
        rows = json.loads(path.read_text())
        path.write_text(json.dumps([*rows, json.loads(change(json.dumps(rows[0])))]))
    else:
        lines = path.read_text().splitlines()
        path.write_text("".join(f"{line}\n" for line in [*lines, "", change(lines[name == "kinetics"])]))


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_a_line_that_is_repeated_counts_once(fakes, tmp_path, name):
    root = shutil.copytree(fakes[name], tmp_path / "some")
    repeated(root, name)
    found, whole = (read_official(one, name, first_variant(name))["train"] for one in (root, fakes[name]))
    assert (found.names, found.videos.labels) == (whole.names, whole.videos.labels)


@pytest.mark.parametrize(
    ("name", "words"),
    [("something_something_v2", ("Approaching [something] with", "Turning [something] upside down")),
     ("kinetics", ("abseiling", "zumba"))],
)  # fmt: skip
def test_a_video_of_two_classes_is_named(fakes, tmp_path, name, words):
    root = shutil.copytree(fakes[name], tmp_path / "some")
    repeated(root, name, lambda line: line.replace(*words).replace("down your camera", "down"))
    with pytest.raises(FileError, match=r"train\.(json|csv): lists \S+ as '.*' and as '.*': remove one of the two"):
        read_official(root, name, first_variant(name))


@pytest.mark.parametrize(
    ("name", "list_path", "change"),
    [
        ("something_something_v2", "labels/train.json", lambda text: text.replace('"template"', '"no"', 1)),
        ("something_something_v2", "labels/test-answers.csv", lambda text: text.partition("\n")[0]),
        ("kinetics", "annotations/train.csv", lambda text: text.replace("abseiling", "", 1)),
    ],
)
def test_a_class_for_some_videos_only_is_an_error_and_not_a_split_without_labels(
    fakes, tmp_path, name, list_path, change
):
    root = shutil.copytree(fakes[name], tmp_path / "some")
    path = root / list_path
    path.write_text(change(path.read_text()))
    with pytest.raises(FileError, match=r"gives \d+ of \d+ videos no class \(\S+\): give all one, or none"):
        read_official(root, name, first_variant(name))


@pytest.mark.parametrize("name", ["ucf101_videos", "hmdb51"])
def test_names_may_have_spaces_and_commas(fakes, tmp_path, name):
    root = shutil.copytree(fakes[name], tmp_path / "some")
    old = next(path for path in sorted(root.rglob("*.avi")) if path.parent.name in ("YoYo", "wave"))
    old.rename(old.with_name("my, wäve 1.avi"))
    for path in root.rglob("*.txt"):
        path.write_text(path.read_text().replace(old.name, "my, wäve 1.avi"))
    train = read_official(root, name, "split1")["train"]
    assert not train.missing
    assert f"{old.parent.name}/my, wäve 1.avi" in train.names


@pytest.mark.parametrize(("name", "path"), [("ucf101_videos", "ucfTrainTestlist/testlist01.txt"),
                                            ("kinetics", "annotations/val.csv")])  # fmt: skip
def test_a_split_whose_list_is_empty_is_told(fakes, tmp_path, name, path):
    root = shutil.copytree(fakes[name], tmp_path / "some")
    header = (root / path).read_text().splitlines()[0] if name == "kinetics" else ""
    (root / path).write_text(f"{header}\n")
    found = read_official(root, name, first_variant(name))
    assert list(found) == ["train"]
    assert any("no video is listed and there" in note for note in size_notes(name, first_variant(name), found))


def test_what_differs_from_the_published_sizes_is_told(fakes):
    found = read_official(fakes["kinetics"], "kinetics", "400")
    assert size_notes("kinetics", "400", found) == [
        "kinetics/400, train: 14 videos, and 246534 were published, 2 are listed but not there",
        "kinetics/400, validation: 4 videos, and 19906 were published",
        "kinetics/400: 4 classes, and 400 were published",
        "kinetics/400, test: no video is listed and there",
    ]


def test_published_sizes_add_up():
    for sizes in OFFICIAL["ucf101_videos"].sizes.values():
        assert sum(sizes.values()) == 13_320
    assert sum(OFFICIAL["something_something_v2"].sizes[""].values()) == 220_847
    for sizes in OFFICIAL["hmdb51"].sizes.values():
        assert sizes == {"train": 51 * 70, "test": 51 * 30}


@pytest.mark.parametrize(
    ("name", "damaged", "content", "message"),
    [
        ("something_something_v2", "labels/labels.json", "[]", r"labels\.json: is not a JSON object"),
        ("something_something_v2", "labels/labels.json", '{"a": "x"}', "does not number its templates"),
        ("something_something_v2", "labels/train.json", "{", r"train\.json: is not JSON"),
        ("something_something_v2", "labels/train.json", '[{"template": "a"}]', "entry 0 has no id"),
        (
            "something_something_v2",
            "labels/train.json",
            '[{"id": "78000", "template": "Hopping"}]',
            r"train\.json: lists 78000 as 'Hopping', which the list of classes does not have",
        ),
        ("something_something_v2", "labels/train.json", "[]", r"train\.json: lists no video"),
        ("something_something_v2", "labels/labels.json", '{"a": "1", "b": 1}', "gives two templates the same number"),
        ("something_something_v2", "labels/labels.json", '{"a": Infinity}', "does not number its templates"),
        ("kinetics", "annotations/train.csv", "a,b\n1,2\n", "its first line names no youtube_id, time_start, time_end"),
        (
            "kinetics",
            "annotations/train.csv",
            "label,youtube_id,time_start,time_end\na,b,x,3\n",
            "line 2 is damaged",
        ),
        ("kinetics", "annotations/train.csv", "label,youtube_id,time_start,time_end\na,b,inf,3\n", "line 2 is damaged"),
        ("kinetics", "annotations/train.csv", "youtube_id,time_start,time_end\n\n  \n\na,3\n", "it has 2 columns of 3"),
        ("ucf101_videos", "ucfTrainTestlist/classInd.txt", "1 YoYo\n2 YoYo\n", "lists a number or a class twice"),
        ("ucf101_videos", "ucfTrainTestlist/classInd.txt", "² YoYo\n", "is not a list of lines such as `1 ApplyEye"),
        ("ucf101_videos", "ucfTrainTestlist/classInd.txt", "YoYo\n", "is not a list of lines such as `1 ApplyEye"),
        ("ucf101_videos", "ucfTrainTestlist/trainlist01.txt", "a.avi 1\n", "is not a list of lines such as `Apply"),
        ("hmdb51", "testTrainMulti_7030_splits/wave_test_split1.txt", "a.avi 5\n", "line 1: is not `VIDEO.avi 0`"),
        (
            "hmdb51",
            "testTrainMulti_7030_splits/wave_test_split1.txt",
            "a.avi 1\n\na.avi 2\n",
            "line 3: a.avi has another number on a line before",
        ),
    ],
)
def test_a_damaged_list_is_named(fakes, tmp_path, name, damaged, content, message):
    root = shutil.copytree(fakes[name], tmp_path / "some")
    (root / damaged).write_text(content)
    with pytest.raises(FileError, match=message):
        read_official(root, name, first_variant(name))


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_an_empty_folder_says_what_it_should_hold(tmp_path, name):
    with pytest.raises(FileError, match="has no"):
        read_official(tmp_path, name, first_variant(name))
    with pytest.raises(FileError, match="is not a folder: download"):
        read_official(tmp_path / "absent", name, first_variant(name))


def test_without_any_video_the_first_ones_are_named(fakes, tmp_path):
    root = shutil.copytree(fakes["hmdb51"], tmp_path / "some")
    shutil.rmtree(root / "hmdb51_org")
    (root / "hmdb51_org").mkdir()
    with pytest.raises(FileError, match=r"holds none of the 12 listed videos \(brush_hair/April_00"):
        read_official(root, "hmdb51", "split1")


def test_names_of_data_sets():
    assert find_official("kinetics") == ("kinetics", "400")
    assert find_official("ucf101_videos/split3") == ("ucf101_videos", "split3")
    assert find_official("train.csv") is None
    with pytest.raises(MgmaeError, match="give kinetics/400, kinetics/600, kinetics/700"):
        find_official("kinetics/500")


def test_a_video_that_is_listed_twice_is_named():
    with pytest.raises(MgmaeError, match=r"list\.csv: lists 'b\.mp4' twice"):
        own_split(VideoList(("v/a.mp4", "v/b.mp4", "v/b.mp4")), "list.csv")
