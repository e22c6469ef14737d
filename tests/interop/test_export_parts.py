"""Which of a model's parameters other programs have a place for, and files that cannot be written."""

import sys
import types

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import FileError, WeightsError
from mgmae_jax.interop import export
from mgmae_jax.interop.export import parts_of, write_pth
from mgmae_jax.interop.names import Parts
from mgmae_jax.interop.safetensors_file import write_tensors
from mgmae_jax.runtime.weights import Leaf, Weights
from tests.train.tiny import VARIANT, tiny_pretraining

SIZES = "/".join(str(size) for size in (VARIANT.width, VARIANT.depth, VARIANT.heads))


def weights_of(strategy: str, **more: tuple[int, ...]) -> Weights:
    """A pre-trained model's parameters, without values."""
    params = jax.eval_shape(tiny_pretraining(strategy=strategy).init, jax.random.key(0)).params
    shapes = {name: leaf.shape for name, leaf in traverse_util.flatten_dict(params, sep=".").items()} | more
    config = ConfigDict({"model": {"name": f"{SIZES}/48/12/2", "decoder_depth": 1}})
    leaves = {name: Leaf(shape, lambda shape=shape: np.zeros(shape)) for name, shape in shapes.items()}
    return Weights("a run", config, None, leaves, {}, True)


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
