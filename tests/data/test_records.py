import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmae_jax.data import records as records_module
from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.example import decode_example, encode_example
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import pretrain_batches
from mgmae_jax.data.record_lists import read_split
from mgmae_jax.data.sources import read_source
from mgmae_jax.datasets.listed import own_split
from mgmae_jax.datasets.prepare import in_processes, prepare
from mgmae_jax.errors import ConfigError, FileError, VideoError
from mgmae_jax.runtime.share import Share

SPEC, ONE = ClipSpec(4, 2, 32), Share()


def made_of(videos: Path, out: Path, **options) -> Path:
    splits = {"train": own_split(read_source(videos), str(videos))}
    prepare(splits, out, "videos", options.get("encoding"), in_processes(1), lambda done, total: None)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory, video_folder) -> Path:
    """Records of `video_folder`."""
    return made_of(video_folder, tmp_path_factory.mktemp("records") / "made")


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    records_module._reader.cache_clear()
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def batches(path, workers=0, steps=3, start=0, batch=4, share=ONE):
    videos = read_source(path)
    with pretrain_batches(
        videos, SPEC, BatchSpec(batch, 1, 7, workers, share), start_step=start, flow=None, on_bad=pytest.fail
    ) as read:
        return [next(read)["clip"] for _ in range(steps)]


def test_records_list_what_the_files_list(folder, video_folder):
    files, records = read_source(video_folder), read_source(folder)
    assert records.names() == files.names() == tuple(records.paths)
    assert (records.labels, records.class_names) == (files.labels, files.class_names)
    assert records.digest() == files.digest()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_records_give_the_batches_of_the_files(folder, video_folder, workers):
    for from_records, from_files in zip(batches(folder, workers), batches(video_folder), strict=True):
        np.testing.assert_array_equal(from_records, from_files)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_batches_of_one(folder, video_folder, hosts):
    whole = batches(video_folder, steps=2)
    parts = [batches(folder, steps=2, share=Share((host,), hosts)) for host in range(hosts)]
    for step, expected in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[step] for part in parts]), expected)


def test_records_resume_at_any_step(folder):
    np.testing.assert_array_equal(batches(folder, steps=1, start=2)[0], batches(folder)[2])


def test_tfds_reads_the_records(folder, video_folder):
    source = tfds.builder_from_directory(folder).as_data_source("train")
    assert len(source) == 5
    assert source[2]["id"].decode() == "run/c.mp4"
    assert source[2]["video"] == (video_folder / "run/c.mp4").read_bytes()
    assert [int(source[i][key]) for i, key in ((0, "frames"), (0, "height"), (4, "label"))] == [12, 48, 1]


def test_a_split_is_named_or_cut(folder):
    whole = read_split(f"{folder}@train")
    assert read_split(f"tfds:{folder}@train[2:4]").names == whole.names[2:4]
    part = read_source(f"{folder}@train[60%:]")
    assert part.paths == whole.names[3:]
    with open_video(part.item(1)) as video:
        assert video.path == whole.names[4]


def test_a_name_is_looked_for_where_tfds_keeps_data_sets(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "videos" / "1.0.0")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert read_split("tfds:videos", "VIDEO").names == read_split("tfds:videos:1.0.0@train").names


@pytest.mark.parametrize(
    ("path", "field", "message"),
    [
        ("tfds:nothing", "data.path", r"config\.data\.path='tfds:nothing': give a folder of records, or the name"),
        ("tfds:/nowhere", "eval.path", r"config\.eval\.path='tfds:/nowhere': give a folder"),
        ("{folder}@test", "data.path", r"give one of its splits at the end, @train, and not @test"),
        ("{folder}@train[", "data.path", r"give one of its splits at the end"),
    ],
)
def test_what_is_not_there_is_named(folder, path, field, message):
    with pytest.raises(ConfigError, match=message):
        read_split(path.format(folder=folder), field)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.array_record-*"))


def read_first(folder: Path) -> np.ndarray:
    with open_video(read_source(folder).item(0)) as video:
        return video.decode([0])


@pytest.mark.parametrize("kept", [0, 100, 66_000])
def test_a_truncated_shard_is_named(copied, kept):
    shard = shards(copied)[0]
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(VideoError, match=rf"jump/a\.mp4: record 0 of .*{shard.name} cannot be read"):
        read_first(copied)


def test_a_missing_and_a_foreign_shard_are_named(copied):
    first, second, *_ = shards(copied)
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(VideoError, match=rf"record 0 of .*{first.name} cannot be read"):
        read_first(copied)
    first.write_bytes(second.read_bytes())
    with pytest.raises(VideoError, match=rf"{first.name} is the video 'jump/b\.mp4'"):
        read_first(copied)
    first.unlink()
    records_module._reader.cache_clear()  # an open shard is not looked at again
    writer = ArrayRecordWriter(str(first), "group_size:1")
    writer.write(encode_example({"id": b"jump/a.mp4", "frames": 3}))
    writer.close()
    with pytest.raises(VideoError, match="is not a record of a video: it has no video, label, fps"):
        read_first(copied)
    first.write_bytes(content)
    records_module._reader.cache_clear()
    assert read_first(copied).shape == (1, 48, 64, 3)


@settings(max_examples=25)
@given(place=st.floats(0, 1, exclude_max=True), garbage=st.binary(min_size=1, max_size=60))
def test_damage_gives_a_video_error_or_the_right_video(tmp_path_factory, folder, place, garbage):
    good = read_first(folder)
    damaged = Path(shutil.copytree(folder, tmp_path_factory.mktemp("damaged") / "copied"))
    shard = shards(damaged)[0]
    content = bytearray(shard.read_bytes())
    start = int(place * len(content))
    content[start : start + len(garbage)] = garbage
    shard.write_bytes(content)
    records_module._reader.cache_clear()
    try:
        found = read_first(damaged)
    except VideoError as error:
        assert shard.name in error.reason  # noqa: PT017 - either is right
    else:
        np.testing.assert_array_equal(found, good)
    shutil.rmtree(damaged)


def test_a_damaged_index_is_named(copied):
    index = copied / "train.index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    for content, message in [
        ("".join(lines[:-1]), "lists 4 videos, and its records are 5"),
        ("{\n" + "".join(lines[1:]), "line 1 is damaged"),
        ("".join(lines).replace('"label": "run"', '"label": "hop"'), "has a label that is none of its classes"),
    ]:
        index.write_text(content)
        with pytest.raises(FileError, match=rf"train\.index\.jsonl: {message}"):
            read_source(copied)
    index.unlink()
    with pytest.raises(FileError, match=r"train\.index\.jsonl: cannot be opened"):
        read_source(copied)


def test_records_of_something_else_are_refused(tmp_path):
    class Numbers(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"number": np.int64}))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"number": 3}

    Numbers(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(FileError, match=r"numbers/1\.0\.0: its records have no video, id, label"):
        read_source(tmp_path / "numbers" / "1.0.0")


def test_a_timeline_of_another_decoder_is_read_again(copied, monkeypatch):
    before = read_first(copied)
    monkeypatch.setattr(records_module, "DECODER", "another")
    read = []
    whole = records_module.Record.keep
    monkeypatch.setattr(records_module.Record, "keep", lambda *args: (read.append(args[1].frames), whole(*args)))
    np.testing.assert_array_equal(read_first(copied), before)
    np.testing.assert_array_equal(read_first(copied), before)  # from the timeline that was kept
    assert read == [12]


def test_the_opener_travels(folder):
    opener = pickle.loads(pickle.dumps(read_source(folder).opener))
    assert opener("run/e.mp4").record.values["frames"] == 28


def test_reading_is_by_place_and_not_by_search(folder, monkeypatch):
    asked = []

    class Counted(ArrayRecordReader):
        def read(self, numbers):
            asked.append(numbers)
            return super().read(numbers)

    records_module._reader.cache_clear()
    monkeypatch.setattr(records_module, "ArrayRecordReader", Counted)
    read_first(folder)
    assert asked == [[0]]
    records_module._reader.cache_clear()


def test_reading_imports_neither_jax_nor_tfds_nor_tensorflow(folder, tmp_path):
    """As a worker does: unpickles an opener, and reads. (Grain, which starts workers, imports jax if it is there.)"""
    opener = tmp_path / "opener.pickle"
    opener.write_bytes(pickle.dumps(read_source(folder).item(0)))
    code = f"""
import pickle, sys
from mgmae_jax.data.decode import open_video
with open_video(pickle.load(open({str(opener)!r}, "rb"))) as video:
    assert video.decode([0, 3]).shape == (2, 48, 64, 3)
print([name for name in ("jax", "tensorflow", "tensorflow_datasets", "flax") if name in sys.modules])
import mgmae_jax.data.pretrain_clips, mgmae_jax.data.finetune_clips, mgmae_jax.data.eval_clips
print([name for name in ("tensorflow", "tensorflow_datasets") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout.split() == ["[]", "[]"]


values = st.dictionaries(
    st.text(max_size=20), st.binary(max_size=50) | st.integers(-(2**63), 2**63 - 1) | st.floats(width=32), max_size=8
)


@given(values)
def test_examples_come_back(content):
    # Floats that are not numbers differ from themselves.
    assert str(decode_example(encode_example(content))) == str(
        {name: content[name] for name in decode_example(encode_example(content))}
    )
    assert set(decode_example(encode_example(content))) == set(content)


@given(st.binary(max_size=100))
def test_what_is_no_example_is_refused(content):
    try:
        assert isinstance(decode_example(content), dict)
    except ValueError as error:
        assert "is not a tf.train.Example" in str(error)  # noqa: PT017


def test_the_index_says_what_the_records_hold(folder):
    rows = [json.loads(line) for line in (folder / "train.index.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "path": "jump/a.mp4", "label": "jump", "frames": 12, "height": 48, "width": 64, "fps": 25.0,
        "bytes": rows[0]["bytes"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def two_splits(tmp_path_factory, video_folder) -> Path:
    """Records of the splits train and test."""
    out = tmp_path_factory.mktemp("two") / "made"
    splits = {"train": own_split(read_source(video_folder), "train")}
    splits["test"] = own_split(read_source(video_folder).take([0, 3]), "test")
    prepare(splits, out, "videos", None, in_processes(1), lambda done, total: None)
    return out


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train[:2]+test", r"give one split, or parts of one, such as @train\[:10%\], and not @train\[:2\]\+test"),
        ("train+test", r"give one split, or parts of one, such as @train\[:10%\], and not @train\+test"),
        ("all", "give one of its splits at the end, @train, @test, and not @all"),
        ("all[:1]", r"give one of its splits at the end, @train, @test, and not @all\[:1\]"),
        ("train+", r"give one of its splits at the end, @train, @test, and not @train\+"),
    ],
)
def test_splits_that_cannot_be_read_together_are_told(two_splits, split, message):
    with pytest.raises(ConfigError, match=rf"config\.data\.path='.*@{re.escape(split)}': {message}"):
        read_source(f"{two_splits}@{split}")


def test_parts_of_a_split_are_read_together(two_splits):
    whole = read_split(f"{two_splits}@train").names
    assert read_split(f"{two_splits}@train[:1]+train[3:]").names == (whole[0], *whole[3:])


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_description_is_named(folder, tmp_path, monkeypatch, name, kept, by_name):
    damaged = Path(shutil.copytree(folder, tmp_path / "videos" / "1.0.0"))
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[: int(kept * len(content))])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(
        FileError, match=rf"{damaged}/{name}: cannot be read .*: copy the records again, or prepare the"
    ):
        read_source("tfds:videos" if by_name else damaged)


def test_a_description_of_something_else_is_named(copied):
    (copied / "dataset_info.json").write_text('{"nothing": 1}')
    with pytest.raises(
        FileError, match=r"copied: cannot be read as records \(ParseError: .*\); copy the records again"
    ):
        read_source(copied)
