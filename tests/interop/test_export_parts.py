"""Which of a model's parameters other programs have a place for, and files that cannot be written."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import FileError, WeightsError
from mgmae_jax.interop import export
from mgmae_jax.interop.export import parts_of, write_hugging_face, write_pth
from mgmae_jax.interop.model_file import Asked, Model, read_model
from mgmae_jax.interop.names import Parts
from mgmae_jax.interop.safetensors_file import read_own, write_own, write_tensors
from mgmae_jax.runtime.weights import Leaf, Weights
from tests.interop.official_files import checkpoint, plain
from tests.train.tiny import VARIANT, tiny_pretraining

SIZES = "/".join(str(size) for size in (VARIANT.width, VARIANT.depth, VARIANT.heads))
CLIP = ("clip.frames=4", "clip.size=32")


def weights_of(strategy: str, **more: tuple[int, ...]) -> Weights:
    """A pre-trained model's parameters, without values."""
    params = jax.eval_shape(tiny_pretraining(strategy=strategy).init, jax.random.key(0)).params
    shapes = {name: leaf.shape for name, leaf in traverse_util.flatten_dict(params, sep=".").items()} | more
    config = ConfigDict({"model": {"name": f"{SIZES}/48/12/2", "decoder_depth": 1}})
    leaves = {name: Leaf(shape, lambda shape=shape: np.zeros(shape)) for name, shape in shapes.items()}
    return Weights("a run", config, None, leaves, {}, True)


def weights_for(target: str) -> Weights:
    """A pre-trained model, its config with it, whose decoder predicts `target`."""
    fields = [f"model.name={SIZES}/48/12/2", "model.decoder_depth=1", "model.patch=8", f"loss.target={target}"]
    config = load_config("pretrain/common", [f"--config.{field}" for field in (*fields, *CLIP)])
    head = {"decoder.head.kernel": (12, 108), "decoder.head.bias": (108,)} if target == "hog" else {}
    return dataclasses.replace(weights_of("tube", **head), config=config)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What `write_pth` last gave to PyTorch's writer, which is not needed here: the file is as it would be."""
    last: dict = {}

    def save(contents: dict, partial: Path) -> None:
        last.clear()
        last.update(contents)
        extra = {name: plain(value) for name, value in contents.items() if name != "model"}
        Path(partial).write_bytes(checkpoint({"model": contents["model"]}, extra=extra))

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(from_numpy=np.asarray, save=save))
    return last


def read_back(path: Path) -> Model:
    return read_model(path, Asked(heads=VARIANT.heads, decoder_heads=VARIANT.decoder_heads))


def test_the_parameters_of_a_masking_strategy_stay_behind():
    weights = weights_of("adamae")
    assert "mask.positions" in weights.leaves
    assert parts_of(weights) == parts_of(weights_of("tube"))


def test_a_parameter_that_others_do_not_have_is_named():
    with pytest.raises(WeightsError, match=r"has encoder\.more, which has no place"):
        parts_of(weights_of("tube", **{"encoder.more": (3,)}))


def test_a_disk_without_room_is_said(tmp_path, monkeypatch):
    """The writers of PyTorch and safetensors have errors of their own for it."""

    def fails(kind):
        def save(*_args):
            raise kind("No space left on device\nframe #0")

        return save

    monkeypatch.setattr(safetensors.numpy, "save_file", fails(safetensors.SafetensorError))
    with pytest.raises(FileError, match=r"a\.safetensors: cannot be written \(No space left on device"):
        write_tensors(tmp_path / "a.safetensors", [("a", np.zeros(1, np.float32))], {})
    fake = types.SimpleNamespace(from_numpy=np.asarray, save=fails(RuntimeError))
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(export, "parts_of", lambda _weights: Parts(0))
    monkeypatch.setattr(export, "canonical_names", lambda _parts: ())
    config = load_config("finetune/common")
    with pytest.raises(FileError, match=r"a\.pth: cannot be written \(No space left on device\): give a writable"):
        write_pth(tmp_path / "a.pth", Weights("a", config, None, {}, {}, True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("target", "decoder"), [("normalised", 1), ("pixels", None), ("hog", None)])
def test_a_decoder_of_another_target_stays_behind(written, tmp_path, target, decoder):
    """Other programs' decoders predict normalised pixels: one that predicts something else would mean nothing there."""
    weights = weights_for(target)
    path, folder = tmp_path / "a.pth", tmp_path / "hf"
    folder.mkdir()
    reports = [write_pth(path, weights), write_hugging_face(folder, weights, "", (np.zeros(3), np.ones(3)))]
    for place in (path, folder):
        model = read_back(place)
        assert model.decoder_depth == decoder
        assert "encoder.blocks.norm.scale" in model.leaves
    described = json.loads((folder / "config.json").read_text())
    assert described["architectures"] == ["VideoMAEForPreTraining" if decoder else "VideoMAEModel"]
    assert ("decoder_hidden_size" in described) == bool(decoder)
    for lines in reports:
        left = [(line.name, line.note) for line in lines if line.status == "unused"]
        assert left == ([] if decoder else [("decoder", f"predicts {target}, config.loss.target; {export.OTHERS}")])
    write_own(tmp_path / "a.safetensors", weights)
    assert "decoder.head.kernel" in read_own(tmp_path / "a.safetensors").leaves


def test_a_pth_says_of_which_clips_its_model_is(written, tmp_path):
    write_pth(tmp_path / "a.pth", weights_for("normalised"))
    assert written["args"] == {"num_frames": 4, "input_size": 32}
    model = read_back(tmp_path / "a.pth")
    assert (model.frames, model.size, model.clip_from) == (4, 32, "the options in the file")
