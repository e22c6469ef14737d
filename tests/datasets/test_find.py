from pathlib import Path

import pytest
from ml_collections import ConfigDict

from mgmae_jax.datasets.find import DATASETS, Dataset, Request, find_videos, flow_folders
from mgmae_jax.errors import ConfigError


def config(data: str = "", evaluation: str = "") -> ConfigDict:
    shapes = {"videos": 3, "test_videos": 2, "size": 32, "frames": 8}
    return ConfigDict({"seed": 0, "data": {"path": data, "motion_shapes": shapes}, "eval": {"path": evaluation}})


def test_without_paths_the_procedural_videos_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path))
    train, test = find_videos(config()), find_videos(config(), "test")
    assert (len(train), len(test)) == (3, 2)
    assert {Path(path).parents[1].name for path in train.paths} == {"train"}
    assert {Path(path).parents[1].name for path in test.paths} == {"test"}
    first = sorted(Path(path).read_bytes() for path in train.paths)
    assert not set(first) & {Path(path).read_bytes() for path in test.paths}
    assert "prepared 3 of 3 videos" in capsys.readouterr().err
    assert find_videos(config()) == train


def test_each_split_has_a_path_of_its_own(tmp_path: Path):
    (tmp_path / "train.csv").write_text("a.mp4,0\n")
    (tmp_path / "test.csv").write_text("b.mp4,0\n")
    both = config(str(tmp_path / "train.csv"), str(tmp_path / "test.csv"))
    assert [Path(find_videos(both, split).paths[0]).name for split in ("train", "test")] == ["a.mp4", "b.mp4"]
    with pytest.raises(ConfigError, match=r"config\.eval\.path='': give the videos that accuracy is measured on"):
        find_videos(config(str(tmp_path / "train.csv")), "test")


def test_the_path_that_is_wrong_is_named(tmp_path: Path):
    (tmp_path / "train.csv").write_text("a.mp4,0\n")
    wrong = config(str(tmp_path / "train.csv"), "/no/such.csv")
    with pytest.raises(ConfigError, match=r"config\.eval\.path='/no/such\.csv': give a folder"):
        find_videos(wrong, "test")
    with pytest.raises(ConfigError, match=r"config\.data\.path='/no/such\.csv': give a folder"):
        find_videos(config("/no/such.csv", str(tmp_path / "train.csv")))


def test_a_data_set_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def prepare(request: Request) -> Path:
        path = tmp_path / f"{request.split}.csv"
        path.write_text("".join(f"{i}.mp4,walk\n" for i in range(request.options["count"])))
        return path

    monkeypatch.setitem(DATASETS, "walks", Dataset(prepare, classes=("walk",)))
    named = config("walks")
    named.data.walks = {"count": 5}
    assert [len(find_videos(named, split)) for split in ("train", "test")] == [5, 5]
    assert find_videos(named).class_names == ("walk",)
    # A folder of that name is what the user means by it.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "walks").mkdir()
    (tmp_path / "walks" / "a.mp4").touch()
    assert find_videos(named).paths == ("walks/a.mp4",)


def test_a_video_of_ones_own_has_its_flow_where_the_config_says(tmp_path: Path):
    def folders(path: str, video: Path | None) -> tuple[str, str]:
        return flow_folders(ConfigDict({"data": {"path": path}, "flow": {"path": "/flow"}}), video)

    assert folders("", None) == ("", "")
    assert folders("", Path("/videos/a.mp4")) == ("/videos", "/flow")
    assert folders("motion_shapes", Path("a.mp4")) == ("", "/flow")
    assert folders(str(tmp_path), Path("/videos/a.mp4")) == (str(tmp_path), "/flow")
    assert folders(f"{tmp_path}/train.csv", None) == (str(tmp_path), "/flow")
