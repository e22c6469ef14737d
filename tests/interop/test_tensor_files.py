"""Files of named tensors: which format they are of, files in parts, and shapes that no array has."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.model_file import read_model
from mgmae_jax.interop.safetensors_file import read_own
from mgmae_jax.interop.tensor_files import open_tensors
from tests.interop import torch_files

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_older_format_in_all_of_pickles_protocols(tmp_path, protocol):
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol)
    (tmp_path / "weights").write_bytes(magic + torch_files.state_dict(ARRAYS).removeprefix(torch_files.MAGIC))
    found = open_tensors(tmp_path / "weights").tensors
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [0] * 99])
def test_shapes_that_no_array_has(tmp_path, shape):
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "weights").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(WeightsError, match=r"tensor a has the shape \[0, "):
        open_tensors(tmp_path / "weights")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.numpy.save(ARRAYS))
    whole = Path.open

    def denied(asked, *args, **options):
        if asked == path:
            raise PermissionError(13, "Permission denied", str(path))
        return whole(asked, *args, **options)

    monkeypatch.setattr(Path, "open", denied)
    assert read_own(path) is None  # so that the next reader says why
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read \(Permission denied\)"):
        read_model(path)


def split(folder, parts, places):
    folder.mkdir()
    for file, names in parts.items():
        (folder / file).write_bytes(safetensors.numpy.save({name: ARRAYS[name] for name in names}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def test_a_tensor_in_two_parts(tmp_path):
    parts = {"1.safetensors": ["a"], "2.safetensors": ["b"]}
    found = open_tensors(split(tmp_path / "whole", parts, {"a": "1.safetensors", "b": "2.safetensors"}))
    assert set(found.tensors) == {"a", "b"}
    parts["2.safetensors"].append("a")
    with pytest.raises(WeightsError, match=r"2\.safetensors: holds a, as another file that model\.safetensors\.index"):
        open_tensors(split(tmp_path / "twice", parts, {"a": "1.safetensors", "b": "2.safetensors"}))


@pytest.mark.parametrize("place", ["..", ".", "", "../whole/1.safetensors", "/etc/passwd", 3])
def test_parts_elsewhere(tmp_path, place):
    folder = split(tmp_path / "whole", {"1.safetensors": ["a"]}, {"a": place})
    with pytest.raises(WeightsError, match="is not an index of the files beside it"):
        open_tensors(folder)
