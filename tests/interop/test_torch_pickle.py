import os
import pickle
import zipfile
import zlib

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop import restricted_pickle
from mgmae_jax.interop.torch_pickle import WHOLE, open_torch_file
from tests.interop import torch_files
from tests.interop.torch_files import array_tensor, dictionary, integer, legacy, reference, tensor, text, zipped
from tests.shared_data import shared

ARRAYS = {
    "module.conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "module.conv.bias": np.array([1.5, -2.0], np.float16),
    "scale": np.array(3.0, np.float64),
    "steps": np.array([2**40, -1], np.int64),
    "flags": np.array([True, False]),
    "nothing": np.zeros((0, 4), np.float32),
    "brain": np.asarray(jnp.array([1.0, 2.5], jnp.bfloat16)),
}
STORAGE = np.arange(12, dtype=np.float32)


def read_torch_tensors(path):
    file = open_torch_file(path)
    return file.tensors(file.default())


@pytest.fixture
def read(tmp_path):
    def read_bytes(data):
        path = tmp_path / "weights.pth"
        path.write_bytes(data)
        return read_torch_tensors(path)

    return read_bytes


def refused(read, data, match=r"weights\.pth: "):
    with pytest.raises(WeightsError, match=match) as caught:
        read(data)
    assert "weights.pth" in str(caught.value)


@pytest.mark.parametrize("zip_format", [False, True])
def test_names_values_shapes_and_types(read, zip_format):
    tensors = read(torch_files.state_dict(ARRAYS, zip_format))
    assert list(tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


def test_the_published_weights():
    tensors = read_torch_tensors(shared("raft/raft-small.pth"))
    assert sum(array.size for array in tensors.values()) == 990_162
    assert tensors["module.fnet.conv1.weight"].shape == (32, 3, 7, 7)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in tensors.values())


def test_strides_and_offsets_are_followed(read):
    contents = dictionary(
        {
            "transposed": tensor("0", "float32", 12, [4, 3], [1, 4]),
            "inner": tensor("0", "float32", 12, [2, 2], [4, 1], offset=5),
            "expanded": tensor("0", "float32", 12, [3, 2], [0, 1], offset=2),
        }
    )
    tensors = read(legacy(contents, {"0": STORAGE}))
    np.testing.assert_array_equal(tensors["transposed"], STORAGE.reshape(3, 4).T)
    np.testing.assert_array_equal(tensors["inner"], STORAGE.reshape(3, 4)[1:, 1:3])
    np.testing.assert_array_equal(tensors["expanded"], [[2, 3]] * 3)


def test_attributes_of_the_dict_and_parameters_are_plain(read):
    parameter = reference("torch._utils", "_rebuild_parameter") + b"(" + array_tensor("0", STORAGE) + b"\x88NtR"
    contents = dictionary({"weight": parameter}) + b"}" + text("_metadata") + dictionary({}) + b"sb"
    np.testing.assert_array_equal(read(legacy(contents, {"0": STORAGE}))["weight"], STORAGE)


@pytest.mark.parametrize("name", ["model", "state_dict", "module"])
def test_the_state_dict_inside_a_checkpoint_is_taken(read, name):
    exp_avg = dictionary({"exp_avg": array_tensor("1", STORAGE)})
    contents = dictionary(
        {
            "epoch": integer(3),
            "best_accuracy": array_tensor("1", STORAGE),
            name: dictionary({"w": array_tensor("0", STORAGE)}),
            "optimizer": dictionary({"state": dictionary({0: exp_avg})}),
        }
    )
    assert list(read(legacy(contents, {"0": STORAGE, "1": STORAGE}))) == ["w"]


def test_one_of_several_state_dicts_is_taken_and_the_others_are_named(tmp_path):
    inside = [dictionary({name: array_tensor("0", STORAGE)}) for name in "abc"]
    contents = dictionary({"other": inside[0], "model_ema": inside[1], "outer": dictionary({"module": inside[2]})})
    path = tmp_path / "weights.pth"
    path.write_bytes(legacy(contents, {"0": STORAGE}))
    file = open_torch_file(path)
    assert file.state_dicts == ("other", "model_ema", "outer.module")
    assert file.default() == "model_ema"
    assert [list(file.tensors(name)) for name in file.state_dicts] == [["a"], ["b"], ["c"]]
    with pytest.raises(WeightsError, match=r"has no state dict 'model': give one of other, model_ema, outer\.module"):
        file.tensors("model")


@pytest.mark.parametrize(
    ("contents", "match"),
    [
        (b"]", "holds a list"),
        (b"K\x07", "holds a int"),
        (dictionary({"a": b"K\x07"}), "no tensors"),
        (b"}", "no tensors"),
    ],
)
@pytest.mark.parametrize("write", [legacy, zipped])
def test_other_contents_are_refused(read, write, contents, match):
    refused(read, write(contents, {}), match)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"{}", b"\x80", pickle.dumps([1]), pickle.dumps({"a": 1}, 2), b"PK\3\4"]
)
def test_other_files_are_refused(read, data):
    refused(read, data)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth: no such file"):
        read_torch_tensors(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match=tmp_path.name):
        read_torch_tensors(tmp_path)


class _Attack:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("place", ["magic", "legacy", "zip"])
@pytest.mark.parametrize("protocol", [0, 2])
def test_code_in_the_file_is_refused_and_not_run(read, tmp_path, place, protocol):
    attack = pickle.dumps(_Attack(os.mkdir, str(tmp_path / "ran")), protocol)
    pickle.loads(attack)  # It works where it is let.
    (tmp_path / "ran").rmdir()
    contents = attack.removeprefix(b"\x80\x02").removesuffix(b".")
    data = {"magic": attack, "legacy": legacy(contents, {}), "zip": zipped(contents, {})}[place]
    refused(read, data, r"not written|posix\.mkdir" if place == "magic" else r"posix\.mkdir.*refused")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "collections OrderedDict.fromkeys", "torch load", "torch.nn.modules.linear Linear"]
)
def test_other_globals_are_refused_by_name(read, name):
    refused(read, legacy(reference(*name.split()), {}), name.replace(" ", r"\."))


def test_what_is_allowed_takes_no_other_arguments(read):
    for contents in (
        reference("collections", "OrderedDict") + b"(]tR",
        reference("torch", "FloatStorage") + b")R",
        reference("torch._utils", "_rebuild_tensor_v2") + b"(K\x01K\x00))tR",
        tensor("0", "float32", 12, [-1], [1]),
        b"(" + text("module") + b"NNNNtQ",
        b"K\x01Q",
    ):
        refused(read, legacy(dictionary({"w": contents}), {"0": STORAGE}), "cannot be read")


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ([13], [1], 0),
        ([12], [1], 1),
        ([4, 4], [3, 1], 0),
        ([2], [2**31 - 1], 0),
        ([1], [1], 12),
        ([2**31 - 1] * 3, [1] * 3, 0),
    ],
)
@pytest.mark.parametrize("write", [legacy, zipped])
def test_tensors_outside_their_storage_are_refused(read, write, size, stride, offset):
    view = b"N" if write is legacy else b""
    contents = dictionary({"w": tensor("0", "float32", 12, size, stride, offset, view)})
    refused(read, write(contents, {"0": STORAGE}), "tensor w: size .* does not fit its storage")


@pytest.mark.parametrize("write", [legacy, zipped])
def test_storages_of_another_size_than_declared_are_refused(read, write):
    view = b"N" if write is legacy else b""
    for numel in (11, 13, 2**31 - 1, -1):
        contents = dictionary({"w": tensor("0", "float32", numel, [1], [1], view=view)})
        refused(read, write(contents, {"0": STORAGE}), "another size|incomplete|not a storage")
    contents = dictionary({"w": tensor("7", "float32", 12, [12], [1], view=view)})
    refused(read, write(contents, {"0": STORAGE}), "missing|no tensor has")


def test_views_of_storages_are_refused(read):
    view = b"(" + text("1") + integer(0) + integer(12) + b"t"
    contents = dictionary({"w": tensor("0", "float32", 12, [12], [1], view=view)})
    refused(read, legacy(contents, {"0": STORAGE}), "newer PyTorch")


def test_zip_files_that_torch_does_not_write_are_refused(read):
    contents = dictionary({"w": array_tensor("0", STORAGE, view=b"")})
    refused(read, zipped(contents, {"0": STORAGE}, compression=zipfile.ZIP_DEFLATED), "compressed")
    refused(read, zipped(contents, {"0": STORAGE}, byteorder="big"), "big-endian")


def test_a_few_bytes_cannot_ask_for_much_memory_or_time(read):
    # A memo index of 2^32 - 1; a tuple that holds itself twice, 64 deep, as a key; a dict inside itself.
    refused(read, legacy(b"}r\xff\xff\xff\xff", {}), "no tensors")
    bomb = b")q\x00" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(64))
    refused(read, legacy(b"}" + bomb + b"K\x01s", {}), "other than a dict")
    refused(read, legacy(b"}q\x00" + text("self") + b"h\x00s", {}), "no tensors")
    # One list, given over and over to what would copy it each time.
    many = b"](" + b"K\x01" * 65 + b"eq\x00"
    for call, most in (
        (reference("torch", "Size") + b"q\x01" + b"h\x01h\x00\x85R" * 1000, 64),
        (reference("torch._utils", "_rebuild_tensor") + b"(" + storage() + b"K\x00h\x00h\x00tR", 64),
        (reference("torch._utils", "_rebuild_parameter") + b"h\x00R", 16),
        (reference("torch._utils", "_rebuild_parameter") + b"K\x01R", 16),
        (rebuild_from_type(reference("torch._utils", "_rebuild_parameter"), b"h\x00"), 16),
    ):
        refused(read, legacy(many + call, {}), f"more than {most} values|int, other than a tuple")


def storage():
    """The opcodes of a storage that no tensor needs."""
    head = b"(" + text("storage") + reference("torch", "FloatStorage") + text("0") + text("cpu")
    return head + integer(12) + b"NtQ"


def rebuild_from_type(function, arguments):
    return reference("torch._tensor", "_rebuild_from_type_v2") + b"(" + function + b"N" + arguments + b"NtR"


def test_tensors_of_more_bytes_than_their_file_are_refused(read):
    repeated = dictionary({"w": tensor("0", "float32", 12, [10**9, 2], [0, 1])})
    refused(read, legacy(repeated, {"0": STORAGE}), r"has \d+ bytes, and tensors of 8000000000 that share them")
    large = np.zeros(10_000, np.float32)
    shared_by_two = dictionary({name: tensor("0", "float32", 10_000, [10_000], [1]) for name in "ab"})
    refused(read, legacy(shared_by_two, {"0": large}), "tensors of 80000 that share them")


@pytest.mark.parametrize("zip_format", [False, True])
def test_a_storage_is_compared_with_its_checksum_once(tmp_path, zip_format, monkeypatch):
    view = b"" if zip_format else b"N"
    parts = {f"{row}": tensor("0", "float32", 12, [1], [1], row, view) for row in range(12)}
    path = tmp_path / "weights.pth"
    path.write_bytes((zipped if zip_format else legacy)(dictionary(parts), {"0": STORAGE}))
    file, counted = open_torch_file(path), []
    monkeypatch.setattr(zlib, "crc32", lambda record, crc32=zlib.crc32: (counted.append(len(record)), crc32(record))[1])
    assert {name: array.item() for name, array in file.tensors(WHOLE).items()} == {f"{i}": i for i in range(12)}
    assert counted == [STORAGE.nbytes] * zip_format


@pytest.mark.parametrize("make", [b")R", b")\x81", b"(t\x81"])
@pytest.mark.parametrize("write", [legacy, zipped])
def test_kinds_of_dicts_are_dicts_and_are_not_made(read, write, make):
    view = b"N" if write is legacy else b""
    kind = reference("somebody.s", "Dict") + make
    model = kind + b"(" + text("w") + array_tensor("0", STORAGE, view) + b"u"
    np.testing.assert_array_equal(read(write(model, {"0": STORAGE}))["w"], STORAGE)
    whole = kind + b"(" + text("model") + model + text("args") + kind + text("num_frames") + integer(8) + b"su"
    np.testing.assert_array_equal(read(write(whole, {"0": STORAGE}))["w"], STORAGE)
    refused(read, write(kind, {}), r"holds a somebody\.s\.Dict, which is refused")


@pytest.mark.parametrize("storage", ["ComplexFloatStorage", "QInt8Storage", "UntypedStorage"])
def test_types_beside_the_model_that_no_model_has(read, storage, monkeypatch):
    monkeypatch.setitem(torch_files.STORAGE_TYPES, "other", storage)
    other = tensor("1", "other", 1, [1], [1], view=b"")
    if storage == "UntypedStorage":
        other = other.replace(b"ctorch\nUntyped", b"ctorch.storage\nUntyped").replace(b"_tensor_v2", b"_tensor_v3")
    model = dictionary({"w": array_tensor("0", STORAGE, view=b"")})
    storages = {"0": STORAGE, "1": np.zeros(1, np.complex64 if storage.startswith("C") else np.int8)}
    contents = dictionary({"model": model, "optimizer": dictionary({"state": other})})
    np.testing.assert_array_equal(read(zipped(contents, storages))["w"], STORAGE)
    if storage == "UntypedStorage":
        refused(read, zipped(dictionary({"w": other}), storages), "tensor w is made by .*_v3, which is not read")


def test_a_storage_of_an_unknown_type_is_named(read, monkeypatch):
    monkeypatch.setitem(torch_files.STORAGE_TYPES, "other", "OtherStorage")
    contents = dictionary({"w": tensor("0", "other", 12, [12], [1])})
    refused(read, legacy(contents, {"0": STORAGE}), r"a storage of type torch\.OtherStorage, which is not read")


def test_a_tensor_alone_is_no_state_dict(read):
    refused(read, legacy(array_tensor("0", STORAGE), {"0": STORAGE}), "holds a tensor, where")


def test_a_pickle_of_too_many_parts_is_refused(read, monkeypatch):
    monkeypatch.setattr(restricted_pickle, "_MOST_OPCODES", 100)
    refused(read, legacy(b"N" * 200, {}), "a pickle of more than 100 parts")


SMALL = {name: ARRAYS[name] for name in ("module.conv.bias", "steps")}


@pytest.mark.parametrize("zip_format", [False, True])
def test_every_truncation_is_refused(read, zip_format):
    data = torch_files.state_dict(SMALL, zip_format)
    for length in range(len(data)):
        refused(read, data[:length])


@hypothesis.settings(max_examples=600, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    zip_format=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_gives_an_error_of_ours_or_tensors(read, zip_format, changes):
    data = bytearray(torch_files.state_dict(SMALL, zip_format))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        tensors = read(bytes(data))
    except WeightsError:
        return
    assert all(isinstance(array, np.ndarray) for array in tensors.values())


@pytest.mark.parametrize("zip_format", [False, True])
def test_pytorch_reads_the_same(tmp_path, zip_format):
    torch = pytest.importorskip("torch")
    dtypes = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    state = {dtype: torch.arange(-3, 9).reshape(3, 4).to(getattr(torch, dtype)) for dtype in dtypes}
    whole = torch.randn(4, 6)
    state |= {"transposed": whole.T, "slice": whole[1:3, ::2], "expanded": whole[:1].expand(5, 6)}
    state |= {"scalar": torch.tensor(2.0), "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(whole)}
    linear = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(linear.parameters())
    linear(torch.ones(3)).sum().backward()
    optimizer.step()
    for name, contents, wanted in (
        ("flat", state, state),
        ("module", linear.state_dict(), linear.state_dict()),
        ("checkpoint", {"model": linear.state_dict(), "optimizer": optimizer.state_dict()}, linear.state_dict()),
    ):
        path = tmp_path / name
        torch.save(contents, path, _use_new_zipfile_serialization=zip_format)
        tensors = read_torch_tensors(path)
        assert list(tensors) == list(wanted)
        for key, value in wanted.items():
            assert tensors[key].dtype.name == str(value.dtype).removeprefix("torch.")
            np.testing.assert_array_equal(tensors[key].astype(np.float64), value.detach().double().numpy())
    path.write_bytes(torch_files.state_dict(ARRAYS, zip_format))
    assert list(torch.load(path, weights_only=True)) == list(ARRAYS)
