"""What `--checkpoint` and `--init` name: what is said of it, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mgmae_jax.cli import main
from mgmae_jax.commands.checkpoints import model_config, open_checkpoint, with_eps
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import ConfigError, MgmaeError, WeightsError
from mgmae_jax.interop.hugging_face import preprocessor_json
from mgmae_jax.interop.model_file import Asked
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from tests.interop import official_files as files
from tests.interop.official_files import CLASSIFIER, checkpoint, official, training_extras

ASKED = Asked(heads=files.HEADS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A classifier of an official program, whose options say clips of 4x8x8."""
    (tmp_path / "classifier.pth").write_bytes(checkpoint({"model": official(CLASSIFIER)}, extra=training_extras()))
    return tmp_path / "classifier.pth"


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(MgmaeError, match=r"none\.pth: no such file or folder"):
        open_checkpoint(str(tmp_path / "none.pth"), ASKED)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_mean", [0.5] * 3),
        ("image_std", 0.5),
        ("do_normalize", False),
        ("rescale_factor", 1),
        ("image_mean", "a"),
    ],
)
def test_pixels_that_are_prepared_otherwise(tmp_path: Path, field: str, value: object):
    folder = files.write_folder(tmp_path / "hf", CLASSIFIER)
    options = preprocessor_json(files.SIZE, IMAGENET_MEAN, IMAGENET_STD)
    beside = folder / "preprocessor_config.json"
    beside.write_text(json.dumps(options))
    open_checkpoint(str(folder), Asked())
    beside.write_text(json.dumps({"feature_extractor_type": "VideoMAEFeatureExtractor", "size": 224}))
    open_checkpoint(str(folder / "model.safetensors"), Asked())
    beside.write_text(json.dumps(options | {field: value}))
    with pytest.raises(WeightsError, match=rf"preprocessor_config\.json: {field}=.*: this project has only "):
        open_checkpoint(str(folder), Asked())


def test_clips_that_the_user_states_are_said(path: Path, capsys: pytest.CaptureFixture):
    found = open_checkpoint(str(path), ASKED)
    capsys.readouterr()
    model_config(found, ["--config.clip.frames=8"])
    assert "taken to be trained on clips of 8x8x8, not 4x8x8, so its positions are not" in capsys.readouterr().err
    model_config(found, ["--config.clip.frames=8", "--config.model.trained_frames=4"])
    model_config(found, ["--config.seed=3"])
    assert capsys.readouterr().err == ""


def test_a_named_config_has_the_clips_of_the_model(tmp_path: Path):
    found = open_checkpoint(str(files.write_folder(tmp_path / "hf", CLASSIFIER)), Asked())
    clip = ["--config.clip.size=8", "--config.clip.frames=2"]
    with pytest.raises(ConfigError, match=r"model\.trained_frames=None: give 4, clip\.frames of .*hf"):
        with_eps(load_config("finetune/common", clip), found)
    named = load_config("finetune/common", [*clip, "--config.model.trained_frames=4"])
    assert with_eps(named, found).model.norm_eps == 1e-12


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        ({"config": "3"}, "its metadata cannot be read"),
        ({"classes": '"run"'}, "classes that are not a list of names"),
        ({"config": "{}"}, "its metadata has config.kind='flow'"),
        ({"config": '{"kind": "finetune", "clip": 3}'}, r"its metadata has no config\."),
        ({"path": "model.patch", "value": "16"}, r"its metadata has config\.model\.patch='16'"),
        ({"path": "clip.frames", "value": True}, r"its metadata has config\.clip\.frames=True"),
    ],
)
def test_damaged_metadata_of_our_own(path: Path, tmp_path: Path, damage: dict, match: str):
    own = tmp_path / "own.safetensors"
    assert main(["convert", str(path), str(own), "--heads", str(files.HEADS)]) == 0
    with safetensors.safe_open(own, framework="np") as opened:
        metadata = dict(opened.metadata())
    if "path" in damage:
        config = json.loads(metadata["config"])
        section, field = damage["path"].split(".")
        config[section][field] = damage["value"]
        metadata["config"] = json.dumps(config)
    else:
        metadata |= damage
    tensors = {name: np.array(tensor) for name, tensor in safetensors.numpy.load_file(own).items()}
    safetensors.numpy.save_file(tensors, tmp_path / "damaged.safetensors", metadata)
    with pytest.raises(WeightsError, match=match):
        open_checkpoint(str(tmp_path / "damaged.safetensors"), Asked())
