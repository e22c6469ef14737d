"""From what the archives of the published data sets unpack to, to an accuracy, by the commands of docs/DATA.md."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import mgmae_jax.datasets.builders  # registers the builders
from mgmae_jax.cli import main
from mgmae_jax.data.decode import decode_frames
from mgmae_jax.data.sources import read_source
from mgmae_jax.evaluate.report import read_report
from mgmae_jax.runtime.metrics import METRICS_FILE, read_metrics
from tests.datasets.fakes import FAKES
from tests.integration.runs import ROOT, Launcher

pytestmark = pytest.mark.slow

# What makes the published recipes small enough for a test.
TINY = {"clip.frames": 4, "clip.size": 32, "model.name": "micro", "data.workers": 0, "optim.warmup_epochs": 1}
SMALL = {
    "pretrain": TINY
    | {
        "flow.source": "tvl1",
        "mask.ratio": 0.5,
        "model.decoder_depth": 1,
        "train.batch_size": 8,
        "train.epochs": 4,
        "train.log_every": 1,
        "preview.every": 0,
    },
    "finetune": TINY
    | {
        "model.classes": 4,
        "model.trained_frames": 4,
        "model.trained_size": 32,
        "data.views": 1,
        "eval.every": 0,
        "eval.clips_per_device": 6,
        "train.batch_size": 8,
        "train.epochs": 2,
        "train.log_every": 1,
    },
}
# The words of docs/DATA.md's first example, and what takes their place for the other data sets.
CHANGED = {
    "something_something_v2": {},
    "kinetics": {},
    "ucf101_videos": {"something_something_v2": "ucf101_videos/split1", "validation": "test"},
    "hmdb51": {"something_something_v2": "hmdb51/split1", "validation": "test"},
}
SECTIONS = {"kinetics": "Kinetics"}
LISTED = {
    "something_something_v2": (30, 6),
    "kinetics": (30, 8),
    "ucf101_videos": (32, 8),
    "hmdb51": (24, 8),
}


def commands(name: str) -> list[list[str]]:
    """The commands of the data set's section of docs/DATA.md, without "mgmae"."""
    page = (ROOT / "docs/DATA.md").read_text(encoding="utf-8")
    section = page.split(f"## {SECTIONS.get(name, 'Something-Something V2')}\n")[1].split("\n## ")[0]
    block = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[0].replace("\\\n", " ")
    for word, other in CHANGED[name].items():
        block = re.sub(rf"(?<=[ @]){word}\b", other, block)
    return [shlex.split(line)[1:] for line in block.splitlines()]


def small(words: list[str]) -> list[str]:
    fields = SMALL.get(words[0], {})
    return [*words, *(f"--config.{name}={value}" for name, value in fields.items())]


@pytest.mark.parametrize("name", list(FAKES))
def test_from_the_archives_to_an_accuracy(launcher: Launcher, tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    prepare, check, pretrain, finetune, evaluate = commands(name)
    assert [words[0] for words in (prepare, check, pretrain, finetune, evaluate)] == [
        "prepare", "check-data", "pretrain", "finetune", "evaluate",
    ]  # fmt: skip
    downloads, records = Path(prepare[3]), Path(prepare[5])
    FAKES[name](tmp_path / downloads)
    by_beam = ["--runner", "DirectRunner"] if importlib.util.find_spec("apache_beam") else []

    assert main([*prepare, *by_beam]) == 0
    train, test = read_source(records), read_source(str(records), "eval.path")
    assert (len(train), len(test)) == LISTED[name]
    assert main(check) == 0
    checked = json.loads((Path(check[3]) / "statistics.json").read_text())
    assert (checked["videos"], checked["frames"]["median"]) == (len(test), 20)

    for words in (pretrain, finetune, evaluate):
        launcher.run(small(words), cwd=tmp_path)
    assert len(read_metrics(Path(pretrain[4]) / METRICS_FILE)) >= 10
    report = read_report(Path(evaluate[4]))
    assert report.videos == len(test)
    assert 0 <= report.top1.value <= 1


@pytest.mark.filterwarnings("default")  # of TFDS's own progress bars
def test_what_tfds_builds_is_trained_on_by_its_name(launcher: Launcher, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    manual = FAKES["ucf101_videos"](tmp_path / "ucf101")
    builder = tfds.builder("ucf101_videos/split1", file_format="array_record", data_dir=tmp_path / "tfds")
    assert isinstance(builder, mgmae_jax.datasets.builders.Ucf101Videos)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    videos = read_source("tfds:ucf101_videos/split1@test")
    files = manual / "UCF-101"
    for i, video in enumerate(videos.paths):
        np.testing.assert_array_equal(decode_frames(videos.item(i), [3]), decode_frames(files / video, [3]))
    words = ["pretrain", "--config", "pretrain/ssv2_vit_b", "--workdir", "run"]
    launcher.run(small([*words, "--config.data.path=tfds:ucf101_videos/split1"]), cwd=tmp_path)
    assert len(read_metrics(tmp_path / "run" / METRICS_FILE)) >= 10
