"""Two hundred damaged and hostile files: each is an error that says why or a model, in little memory."""

import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from ml_collections import ConfigDict

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.model_file import Asked, read_model
from mgmae_jax.runtime.weights import Weights
from tests.interop import official_files as files
from tests.interop.official_files import CLASSIFIER, checkpoint, official, training_extras
from tests.interop.torch_files import dictionary, text, zipped

MOST_MEMORY = 8 << 20  # bytes, for files of some 20 KB
HUGE = [struct.pack("<Q", 2**63 - 1), struct.pack("<Q", 2**32), b"\xff" * 8, b"\xff" * 4, struct.pack("<i", 2**31 - 1)]


@pytest.fixture(scope="module")
def whole():
    extra = training_extras()
    return [
        checkpoint({"model": official(CLASSIFIER)}, extra=extra),
        checkpoint({"model": official(CLASSIFIER)}, zip_format=False, extra=extra),
        safetensors.numpy.save(official(CLASSIFIER)),
    ]


def use(path):
    """Reads everything that a command would."""
    model = read_model(path, Asked(heads=files.HEADS))
    weights = Weights(str(path), ConfigDict(), model.classes, model.leaves, {}, False)
    for name in weights.leaves:
        assert np.isfinite(weights.values(name)).all()


def flipped(data, rng):
    place, bit = int(rng.integers(len(data))), int(rng.integers(8))
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def truncated(data, rng):
    return data[: int(rng.integers(1, len(data)))]


def huge(data, rng):
    # Where headers are: at the start, and in a zip file at the end.
    value, place = HUGE[rng.integers(len(HUGE))], int(rng.integers(0, min(len(data), 6000)))
    place = place if rng.random() < 0.7 else len(data) - 1 - place
    return (data[:place] + value + data[place + len(value) :])[: len(data)]


@pytest.mark.parametrize(("damage", "count"), [(flipped, 70), (truncated, 50), (huge, 50)])
def test_damaged_files(tmp_path, whole, damage, count):
    rng = np.random.default_rng(count)
    errors, path = [], tmp_path / "weights.pth"
    tracemalloc.start()
    try:
        for number in range(count):
            path.unlink(missing_ok=True)  # the one before may still be mapped
            path.write_bytes(damage(whole[number % len(whole)], rng))
            try:
                use(path)
            except WeightsError as error:
                errors.append(str(error))
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert all("weights.pth" in error and len(error) < 1500 for error in errors)
    assert len(errors) == count if damage is truncated else len(errors) > count // 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["head.weight", "blocks.0.attn.qkv.weight", "patch_embed.proj.bias"])
def test_values_that_are_not_finite(tmp_path, name, value):
    tensors = official(CLASSIFIER)
    tensors[name] = tensors[name].copy()
    tensors[name].flat[3 % tensors[name].size] = value
    (tmp_path / "weights.pth").write_bytes(checkpoint({"model": tensors}))
    with pytest.raises(WeightsError, match="has values that are not finite"):
        use(tmp_path / "weights.pth")


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
@pytest.mark.parametrize("name", ["head.weight", "blocks.1.norm1.bias", "fc_norm.weight", "blocks.0.attn.q_bias"])
def test_other_types(tmp_path, name, dtype):
    tensors = official(CLASSIFIER) | {name: np.zeros(files.shape_of(name), dtype)}
    (tmp_path / "weights.pth").write_bytes(checkpoint({"model": tensors}))
    with pytest.raises(WeightsError, match=rf"tensor {name} is (int64|bool), not of a floating-point type"):
        use(tmp_path / "weights.pth")


class _Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("place", ["beside", "tensor", "name", "bytes", "whole"])
def test_pickles_that_would_run_something(tmp_path, place, protocol):
    attack = pickle.dumps(_Attack(str(tmp_path / "ran")), protocol)
    pickle.loads(attack)  # It works where it is let.
    (tmp_path / "ran").rmdir()
    opcodes = attack[:-1]
    model, storages = files.state_dict(official(CLASSIFIER), view=b"")
    contents = {
        "beside": dictionary({"model": model, "optimizer": opcodes}),
        "tensor": dictionary({"model": model[:-1] + text("head.scale") + opcodes + b"u"}),
        "name": dictionary({"model": model}) + b"(" + opcodes + b"Nu",
        "bytes": dictionary({"model": model, "inner": files.plain(attack)}),
        "whole": opcodes,
    }[place]
    (tmp_path / "weights.pth").write_bytes(zipped(contents, storages))
    if place == "whole":
        with pytest.raises(WeightsError, match=r"holds a posix\.mkdir, which is refused"):
            use(tmp_path / "weights.pth")
    else:
        use(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()
