import os
from pathlib import Path

import pytest

from mgmae_jax.commands.features import listed
from mgmae_jax.errors import ConfigError, MgmaeError


@pytest.mark.parametrize("name", ["cam.MTS", "a.mp4", "b.vob"])
def test_a_video_is_listed_alone(name: str):
    assert listed(name).paths == (name,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "videos.txt",
            r"^VIDEO\|LIST: '.*videos\.txt': give a folder of videos, or a list that ends in \.csv or \.jsonl",
        ),
        ("gone", r"^VIDEO\|LIST: '.*gone': give a folder of videos, or a \.csv or \.jsonl list, that exists"),
        (
            "ids.csv",
            r"a\.mp4: has label 99999999999999999999 in .*ids\.csv: a label is a class's number, from 0 to 9999",
        ),
    ],
)
def test_what_cannot_be_listed_names_the_argument(tmp_path: Path, name: str, message: str):
    (tmp_path / "videos.txt").touch()
    (tmp_path / "ids.csv").write_text("a.mp4,99999999999999999999\n")
    with pytest.raises(MgmaeError, match=message) as told:
        listed(os.fspath(tmp_path / name))
    assert not isinstance(told.value, ConfigError)
