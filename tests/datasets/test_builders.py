import json

import pytest
import tensorflow_datasets as tfds

import mgmae_jax.datasets.builders as builders
from mgmae_jax.data.sources import read_source
from mgmae_jax.datasets.official import OFFICIAL, read_official

BUILDERS = {
    "something_something_v2": builders.SomethingSomethingV2,
    "kinetics": builders.Kinetics,
    "ucf101_videos": builders.Ucf101Videos,
    "hmdb51": builders.Hmdb51,
}


def test_every_published_data_set_has_a_builder():
    assert set(BUILDERS) == set(OFFICIAL)
    assert {name: builder.name for name, builder in BUILDERS.items()} == {name: name for name in BUILDERS}
    for name, builder in BUILDERS.items():
        assert [config.name for config in builder.BUILDER_CONFIGS] == [one for one in OFFICIAL[name].variants if one]


def build(name: str, manual_dir, data_dir) -> tfds.core.DatasetBuilder:
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    return builder


@pytest.mark.parametrize("name", list(OFFICIAL))
@pytest.mark.filterwarnings("default")  # of TFDS's own progress bars
def test_a_builder_writes_what_the_data_set_lists(fakes, tmp_path, monkeypatch, name):
    variant = OFFICIAL[name].variants[0]
    builder = build(f"{name}/{variant}".rstrip("/"), fakes[name], tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for split, listed in read_official(fakes[name], name, variant).items():
        source = builder.as_data_source(split)
        videos = read_source(f"tfds:{name}/{variant}".rstrip("/") + f"@{split}")
        assert videos.paths == listed.names == tuple(row["id"].decode() for row in source)
        assert videos.labels == listed.videos.labels
        with open(listed.videos.paths[-1], "rb") as file:
            assert source[len(source) - 1]["video"] == file.read()


@pytest.mark.filterwarnings("default")
def test_what_is_missing_or_broken_is_listed(fakes, tmp_path):
    root = tmp_path / "some"
    (root / "train").mkdir(parents=True)
    good = next(fakes["kinetics"].rglob("*.mp4"))
    (root / "train/a.mp4").write_bytes(good.read_bytes())
    (root / "train/b.mp4").write_text("no video")
    (root / "test.csv").write_text("train/a.mp4\n")
    builder = build("own_videos", root, tmp_path / "data")
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {"train": 1, "test": 1}
    (left_out,) = (tmp_path / "data/own_videos/1.0.0/left_out.jsonl").read_text().splitlines()
    assert (json.loads(left_out)["split"], json.loads(left_out)["path"]) == ("train", "b.mp4")
    assert read_source(str(builder.data_dir)).labels is None
