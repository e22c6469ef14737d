from pathlib import Path

import pytest

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import MgmaeError
from mgmae_jax.probe.run import find_both


def both(folder: Path, train: str, test: str):
    """What a probe of these two lists finds."""
    for name, text in (("train", train), ("test", test)):
        (folder / f"{name}.csv").write_text(text)
    paths = [f"--config.data.path={folder}/train.csv", f"--config.eval.path={folder}/test.csv"]
    return find_both(load_config("probe/common", paths))


def test_test_videos_have_the_labels_of_the_training_videos(tmp_path: Path):
    train, test = both(tmp_path, "a.mp4,run\nb.mp4,jump\nc.mp4,walk\n", "d.mp4,walk\ne.mp4,run\n")
    assert (train.labels, test.labels) == ((1, 0, 2), (2, 1))
    train, test = both(tmp_path, "a.mp4,0\nb.mp4,5\n", "d.mp4,05\n")
    assert (train.class_names, test.labels) == (("0", "1", "2", "3", "4", "5"), (5,))
    train, test = both(tmp_path, "path,label,frames\na.mp4,0,20\nb.mp4,1,20\n", "path,frames,label\nd.mp4,20,1\n")
    assert (train.labels, test.labels) == ((0, 1), (1,))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("a.mp4,run\nb.mp4,jump\n", "d.mp4,0\n", r"test\.csv has numbers, the model's classes are jump, run"),
        ("a.mp4,0\nb.mp4,1\n", "d.mp4,run\n", r"test\.csv has classes that the model was not trained on: run"),
        ("a.mp4,0\nb.mp4,30000000\n", "d.mp4,0\n", r"b\.mp4: has label 30000000 in .*train\.csv"),
        (
            "a.mp4,0\nb.mp4,99999999999999999999\n",
            "d.mp4,0\n",
            r"b\.mp4: has label 99999999999999999999 in .*train\.csv",
        ),
        ("a.mp4,0\nb.mp4,9999\n", "d.mp4,0\n", r"b\.mp4: has label 9999 in .*train\.csv, a list of 2 videos"),
        (
            "a.mp4,0\nb.mp4,1\n",
            "d.mp4,30000000\n",
            r"d\.mp4: has label 30000000 in .*test\.csv; the model knows 0 to 1",
        ),
        ("a.mp4\nb.mp4\n", "d.mp4,0\n", r"a\.mp4: has no label\. Every video of .*train\.csv needs one"),
    ],
)
def test_labels_that_do_not_fit_are_told(tmp_path: Path, train: str, test: str, message: str):
    with pytest.raises(MgmaeError, match=message):
        both(tmp_path, train, test)
