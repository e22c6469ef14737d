import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mgmae_jax.data.columns import IGNORED_NAMES, LABEL_NAMES, PATH_NAMES, CsvRows, Row, read_header


def rows_of(text, folder):
    parse = CsvRows(folder, pytest.fail)
    return [row for line in text.splitlines() if (row := parse(line))]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("path,label,frames\na.mp4,0,20", [("a.mp4", "0")]),
        ("label,path\n3,a b.mp4", [("a b.mp4", "3")]),
        ("Frames,Class Name,FileName\n20,ride bike,a b.mp4", [("a b.mp4", "ride bike")]),
        ("name,target\na.mp4,3", [("a.mp4", "3")]),
        (",path,label\n0,a.mp4,3", [("a.mp4", "3")]),
        ("# path,label\na.mp4,3", [("a.mp4", "3")]),
        ('"path","label"\n"a, b.mp4",run', [("a, b.mp4", "run")]),
        ("path\tlabel\nmy a.mp4\tride bike", [("my a.mp4", "ride bike")]),
        ("path label\nmy a.mp4 3\nmy b", [("my a.mp4", "3"), ("my", "b")]),
        ("label path\n3 my a.mp4", [("my a.mp4", "3")]),
        ("path frames label\na b.mp4 120 3", [("a b.mp4", "3")]),
        ("path,label\na.mp4 3\nmy b.mp4\nc.mp4,", [("a.mp4", "3"), ("my b.mp4", None), ("c.mp4", None)]),
        ("path label\nmy a b.mp4", [("my a b.mp4", None)]),
        ("path\nmy a.mp4\nb", [("my a.mp4", None), ("b", None)]),
        ("video\na.mp4", [("a.mp4", None)]),
        # Without a header:
        ("a.mp4,video\nb.mp4,label", [("a.mp4", "video"), ("b.mp4", "label")]),
        ("a.mp4\t120\t3\nb.MP4\t120 4\nc.mp4\tride bike", [("a.mp4", "3"), ("b.MP4", "4"), ("c.mp4", "ride bike")]),
        ("a.mp4,0,20", [("a.mp4", "20")]),
        ("a.ts.m2ts 5\nb.mts 6", [("a.ts.m2ts", "5"), ("b.mts", "6")]),
        ("clip01,007", [("clip01", "007")]),
    ],
)
def test_cells_are_found(tmp_path, text, rows):
    assert rows_of(text, tmp_path) == [Row(*row) for row in rows]


@given(
    path=st.sampled_from(sorted(PATH_NAMES)),
    label=st.sampled_from(sorted(LABEL_NAMES)),
    ignored=st.lists(st.sampled_from(sorted(IGNORED_NAMES - {""})), max_size=3, unique=True),
    separator=st.sampled_from([",", "\t"]),
    random=st.randoms(),
)
def test_a_header_may_have_any_order_and_case(tmp_path_factory, path, label, ignored, separator, random):
    cells = {path: "my a.mp4", label: "run"} | {name: str(i) for i, name in enumerate(ignored)}
    names = list(cells)
    random.shuffle(names)
    header = separator.join(random.choice([str.upper, str.title, str])(name) for name in names)
    rows = rows_of(f"{header}\n{separator.join(cells[name] for name in names)}", tmp_path_factory.getbasetemp())
    assert rows == [Row("my a.mp4", "run")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,split\n", "has the column 'split': write a list of its own for each part"),
        ("path,label,speaker\n", "has the column 'speaker': it is not known, so remove it"),
        ("path,start_time,end_time,label\n", "has the column 'start_time': parts of a video are not supported"),
        ("path,label,class_name\n", "names two columns of labels, 'label' and 'class_name': keep one"),
        ("video,path,label\n", "names two columns of paths, 'video' and 'path': keep one"),
        ("id,label\n", "is a header without a column of paths: call it path"),
        ("clip,label\n", "is a header without a column of paths"),
        ("label,youtube_id,time_start,time_end,split,is_cc\n", "is the official list of Kinetics, which names"),
        ("youtube_id,time_start,time_end,split\n", "is the official list of Kinetics"),
        ("path,label\na, b.mp4,run", "has 3 cells, and the header 2: put names that hold a comma in quotes"),
        ("path,frames,label\na, b.mp4,run", "not under the header's path: is there a comma in the name"),
        ("path,label\n0,a.mp4", "not under the header's path"),
        ("path label\na.mp4 120 3", "has more cells than the header's 2"),
        ("label path\n3", "has 1 cell, and the header 2"),
        ("path,label\n,3", "has no path"),
        ("a, b.mp4,run", "is there a comma in the name, without quotes"),
        ("a, b.mp4,120,3", "is there a comma in the name, without quotes"),
        ("a, b.mp4", "is there a comma in the name, without quotes"),
        ("a, b.mp4 3", "is there a comma in the name, without quotes"),
        ("my, videos/a.m2ts,3", "is there a comma in the name, without quotes"),
        ("0,a.mp4", "has a video's name that is not in the first cell"),
        ("0\ta.mp4", "has a video's name that is not in the first cell"),
        ("a.mp4,run,3", "has 'run' where `path`, .* has a number of frames"),
        ("a.mp4,ride, fast", "put names that hold a comma in quotes"),
        ("a.mp4,12,3,4", "is not `path`, `path,label` or"),
        *(
            (text.replace(";", mark), rf"is the list separated by '\{mark}'\? Use commas")
            for mark in ";|"
            for text in ("a.mp4;0", "path;label", "a.mp4; 0", "a.mp4;ride bike", "clip;0", '"a.mp4";0', "a.mp4;0,5")
        ),
        ("frames 0 120 3", "by a comma, after a video's name with its extension"),
        ("gone 0 120 3", "by a comma, after a video's name with its extension"),
    ],
)  # fmt: skip
def test_what_could_be_meant_otherwise_is_an_error(tmp_path, text, message):
    for name in ("frames", "my frames"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=message):
        rows_of(text, tmp_path)


@pytest.mark.parametrize(
    ("mean", "row"),
    [("start total", Row("frames/12", None, 1, 62)), ("total label", Row("frames/12", "62", None, 1))],
)
@pytest.mark.parametrize("line", ["frames/12 1 62", "frames/12,1,62", "frames/12\t1\t62"])
def test_the_lists_of_videomae_and_mgmae_name_folders_of_frames(tmp_path, mean, row, line):
    (tmp_path / "frames/12").mkdir(parents=True)
    parse = CsvRows(tmp_path, lambda: mean)
    assert [parse(line), parse(line.replace("12", "13"))] == [row, row._replace(path="frames/13")]


@pytest.mark.parametrize("line", ["a b.mp4 0 -1", "a b.mp4,0,-1"])
def test_minus_one_frames_are_all_and_no_label(tmp_path, line):
    assert rows_of(line, tmp_path) == [Row("a b.mp4", None)]


def test_a_file_with_such_a_name_is_one(tmp_path):
    for name in ("a;b.mp4", "clip|0"):
        (tmp_path / name).touch()
    assert rows_of("a;b.mp4 3\nclip|0,4", tmp_path) == [Row("a;b.mp4", "3"), Row("clip|0", "4")]


@given(st.lists(st.text().map(str.strip).filter(bool), min_size=1, max_size=3))
def test_any_line_is_a_row_or_an_error(tmp_path_factory, lines):
    parse = CsvRows(tmp_path_factory.getbasetemp(), pytest.fail)
    for line in lines:
        try:
            row = parse(line)
        except ValueError:
            continue
        assert row is None or row.path


@example(label="YOUTUBE_ID")  # a column of the official lists of Kinetics
@given(st.text(st.characters(blacklist_characters="\0\r\n", blacklist_categories=["Cs", "Cc"]), min_size=1))
def test_a_quoted_label_comes_back(tmp_path_factory, label):
    quoted = '"' + label.replace('"', '""') + '"'
    for line in (f"a.mp4,{quoted}", f'"a, b.mp4",12,{quoted}'):
        expected = label.strip()
        if not expected:
            continue
        try:
            row = CsvRows(tmp_path_factory.getbasetemp(), pytest.fail)(line)
        except ValueError as error:  # a label may itself end as a video's name
            assert "has a video's name" in str(error)  # noqa: PT017
            continue
        assert row.label == expected


@pytest.mark.parametrize("cells", [*itertools.permutations(["a.mp4", "path", "label"])])
def test_a_line_with_a_video_is_not_a_header(cells):
    assert read_header(cells, ",".join(cells)) is None
