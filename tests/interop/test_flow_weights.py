import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from mgmae_jax.errors import FileError, WeightsError
from mgmae_jax.flow.raft import init_params
from mgmae_jax.flow.weights_hash import weights_hash
from mgmae_jax.interop.flow_weights import load_flow_weights, save_flow_weights
from tests.interop import torch_files
from tests.shared_data import shared

# What torchvision.models.optical_flow.raft_small calls the parts of princeton-vl's model.
TORCHVISION = [
    ("fnet.conv1.", "feature_encoder.convnormrelu.0."),
    ("cnet.conv1.", "context_encoder.convnormrelu.0."),
    ("fnet.conv2.", "feature_encoder.conv."),
    ("cnet.conv2.", "context_encoder.conv."),
    ("fnet.layer", "feature_encoder.layer"),
    ("cnet.layer", "context_encoder.layer"),
    (".conv1.", ".convnormrelu1.0."),
    (".conv2.", ".convnormrelu2.0."),
    (".conv3.", ".convnormrelu3.0."),
    ("update_block.encoder.convc1.", "update_block.motion_encoder.convcorr1.0."),
    ("update_block.encoder.convf1.", "update_block.motion_encoder.convflow1.0."),
    ("update_block.encoder.convf2.", "update_block.motion_encoder.convflow2.0."),
    ("update_block.encoder.conv.", "update_block.motion_encoder.conv.0."),
    ("update_block.gru.", "update_block.recurrent_block.convgru1."),
]


def torchvision_name(name):
    for princeton, torchvision in TORCHVISION:
        if not (princeton.startswith(".") and name.startswith("update_block.flow_head.")):
            name = name.replace(princeton, torchvision)
    return name


@pytest.fixture(scope="module")
def princeton():
    """The golden file's random weights under princeton-vl's names."""
    with np.load(Path(__file__).parents[1] / "golden/raft_small.npz") as arrays:
        return {name[2:]: arrays[name] for name in arrays.files if name.startswith("w:")}


@pytest.fixture(scope="module")
def params(princeton, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "raft.safetensors"
    path.write_bytes(safetensors.numpy.save(princeton))
    return load_flow_weights(path)


def own_names(params):
    return traverse_util.flatten_dict(params, sep=".")


def assert_same(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_every_kernel_is_transposed_into_its_place(princeton, params):
    expected = jax.eval_shape(init_params, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, expected)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
    for path, name in {
        "feature_encoder.stem.kernel": "fnet.conv1.weight",
        "feature_encoder.stage1_block0.downsample.kernel": "fnet.layer2.0.downsample.0.weight",
        "context_encoder.out.bias": "cnet.conv2.bias",
        "motion_encoder.correlation.kernel": "update_block.encoder.convc1.weight",
        "motion_encoder.flow2.kernel": "update_block.encoder.convf2.weight",
        "gru.update.kernel": "update_block.gru.convz.weight",
        "gru.reset.kernel": "update_block.gru.convr.weight",
        "gru.candidate.kernel": "update_block.gru.convq.weight",
        "flow_head.conv2.kernel": "update_block.flow_head.conv2.weight",
    }.items():
        tensor = princeton[name]
        expected = np.einsum("oihw->hwio", tensor) if tensor.ndim == 4 else tensor
        np.testing.assert_array_equal(own_names(params)[path], expected)


@pytest.mark.parametrize("write", ["safetensors", "legacy", "zip"])
@pytest.mark.parametrize("names", ["princeton", "module", "torchvision"])
def test_all_formats_and_layouts_give_the_same(tmp_path, princeton, params, write, names):
    rename = {"princeton": str, "module": "module.{}".format, "torchvision": torchvision_name}[names]
    tensors = {rename(name): tensor for name, tensor in princeton.items()}
    assert len(tensors) == len(princeton)
    path = tmp_path / "raft"  # No suffix: the contents say what it is.
    if write == "safetensors":
        path.write_bytes(safetensors.numpy.save(tensors))
    else:
        path.write_bytes(torch_files.state_dict(tensors, zip_format=write == "zip"))
    assert_same(load_flow_weights(path), params)


def test_torchvision_names_are_those_of_its_source():
    # Spot checks against torchvision/models/optical_flow/raft.py.
    assert torchvision_name("fnet.conv1.weight") == "feature_encoder.convnormrelu.0.weight"
    assert torchvision_name("cnet.layer3.1.conv2.bias") == "context_encoder.layer3.1.convnormrelu2.0.bias"
    assert torchvision_name("fnet.layer2.0.downsample.0.weight") == "feature_encoder.layer2.0.downsample.0.weight"
    assert torchvision_name("update_block.gru.convq.weight") == "update_block.recurrent_block.convgru1.convq.weight"
    assert torchvision_name("update_block.flow_head.conv1.bias") == "update_block.flow_head.conv1.bias"


def test_the_published_weights_load():
    params = load_flow_weights(shared("raft/raft-small.pth"))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 990_162


def test_saved_weights_come_back(tmp_path, params):
    path = tmp_path / "own.safetensors"
    save_flow_weights(path, params)
    assert "feature_encoder.stem.kernel" in safetensors.numpy.load_file(path)
    loaded = load_flow_weights(path)
    assert_same(loaded, params)
    assert weights_hash(loaded) == weights_hash(params)
    save_flow_weights(path, jax.tree.map(jnp.asarray, params), np.float16)
    half = load_flow_weights(path)
    assert_same(half, jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), params))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.safetensors"]


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_other_float_types_become_float32(tmp_path, princeton, params, dtype):
    (tmp_path / "raft").write_bytes(safetensors.numpy.save({k: v.astype(dtype) for k, v in princeton.items()}))
    assert_same(
        load_flow_weights(tmp_path / "raft"), jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), params)
    )


def test_a_value_too_large_for_float16_is_not_saved(tmp_path, params):
    large = own_names(params) | {"gru.reset.bias": np.full(96, 1e5, np.float32)}
    with pytest.raises(WeightsError, match=r"float16 numbers in gru\.reset\.bias"):
        save_flow_weights(tmp_path / "raft", traverse_util.unflatten_dict(large, sep="."), np.float16)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path, params):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/raft: cannot be written"):
        save_flow_weights(tmp_path / "file/raft", params)
    with pytest.raises(WeightsError, match=r"none: no such file"):
        load_flow_weights(tmp_path / "none")
    with pytest.raises(WeightsError, match=r"cannot be read"):
        load_flow_weights(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\0" * 8 + b"{", b"\x10" + b"\0" * 7 + b"{" + b" " * 20, b"PK\3\4abc", b"\x80\x02]."]
)
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "raft.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=r"raft\.safetensors: "):
        load_flow_weights(tmp_path / "raft.safetensors")


def load(path, tensors):
    path.write_bytes(safetensors.numpy.save(tensors))
    return load_flow_weights(path)


def test_differences_are_named(tmp_path, params):
    own = own_names(params)
    differing = {name: tensor for name, tensor in own.items() if not name.startswith("gru.")}
    differing |= {"stranger": np.zeros(1), "flow_head.conv1.bias": np.zeros(127, np.float32)}
    message = (
        "is not RAFT-small: missing gru.candidate.bias, gru.candidate.kernel, gru.reset.bias and 3 more; "
        "unexpected stranger; of another shape or type flow_head.conv1.bias float32[127] for float32[128]"
    )
    with pytest.raises(WeightsError, match=re.escape(message)) as caught:
        load(tmp_path / "raft", differing)
    assert "RAFT-large" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"flow_head\.conv1\.bias int64"):
        load(tmp_path / "raft", own | {"flow_head.conv1.bias": np.zeros(128, np.int64)})


def test_kernels_of_the_other_layout_are_refused(tmp_path, params):
    own = own_names(params)
    swapped = own | {
        "flow_head.conv1.kernel": np.ascontiguousarray(own["flow_head.conv1.kernel"].transpose(3, 2, 0, 1))
    }
    with pytest.raises(
        WeightsError, match=r"flow_head\.conv1\.kernel float32\[128, 96, 3, 3\] for float32\[3, 3, 96, 128\]"
    ):
        load(tmp_path / "raft", swapped)


@pytest.mark.parametrize(
    "large",
    [
        {"update_block.mask.0.weight": np.zeros((256, 128, 3, 3), np.float32)},
        {"mask_predictor.convrelu.0.weight": np.zeros((256, 128, 3, 3), np.float32)},
        {"fnet.conv2.weight": np.zeros((256, 128, 1, 1), np.float32)},
    ],
)
def test_raft_large_is_recognised(tmp_path, princeton, large):
    with pytest.raises(WeightsError, match="This is RAFT-large; RAFT-small is needed"):
        load(tmp_path / "raft", princeton | large)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, princeton, value):
    bias = np.array(princeton["fnet.conv1.bias"])
    bias[3] = value
    with pytest.raises(WeightsError, match=r"not finite float32 numbers in feature_encoder\.stem\.bias"):
        load(tmp_path / "raft", princeton | {"fnet.conv1.bias": bias})


def test_a_tensor_given_twice_is_refused(tmp_path, princeton):
    with pytest.raises(WeightsError, match="twice"):
        load(tmp_path / "raft", princeton | {"module.fnet.conv1.bias": princeton["fnet.conv1.bias"]})
