"""The tensors of a file that `torch.save` wrote, without PyTorch and without running anything from the file."""

import dataclasses
import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.restricted_pickle import load_plain

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    numel: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("rebuilds a tensor from something other than a storage and sizes")
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _ordered_dict() -> dict[Any, Any]:
    return {}


_STORAGE_TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

_ALLOWED = {f"torch.{name}": np.dtype(dtype) for name, dtype in _STORAGE_TYPES.items()} | {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def _persistent_storage(identity: Any) -> _Storage:
    kind, dtype, key, _location, numel, *view = identity
    if kind != "storage" or not (
        isinstance(dtype, np.dtype) and isinstance(key, str) and type(numel) is int and numel >= 0
    ):
        raise pickle.UnpicklingError("has a persistent id that is not a storage")
    if view not in ([], [None]):
        raise pickle.UnpicklingError("has storages that are views of others: save it again with a newer PyTorch")
    return _Storage(key, dtype, numel)


def read_torch_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch state dict, in the zip format or the older one; optimiser state is left out.

    Nothing in the file can run: it may refer only to what a state dict is made of, as with torch.load's
    `weights_only=True`. Numbers in the file are checked against its actual size before they are used.

    Args:
      path: a state dict, or a checkpoint with one state dict inside ("model", "state_dict", ...).

    Returns:
      The tensors by name, as read-only arrays that may be strided views of one another; bfloat16 stays bfloat16.

    Raises:
      WeightsError: no such file, damaged, not PyTorch's, with contents other than a state dict, or with several state
        dicts.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(path, "no such file" if isinstance(error, FileNotFoundError) else str(error)) from error
    if not data:
        raise WeightsError(path, "is empty")
    try:
        read = _read_zip if data.startswith(b"PK") else _read_legacy
        contents, buffers = read(data)
        tensors = _only_state_dict(contents)
        return {name: _array(name, tensor, buffers) for name, tensor in tensors.items()}
    except pickle.UnpicklingError as error:
        raise WeightsError(path, f"cannot be read as a PyTorch state dict: {error}") from error


def _read_zip(data: bytes) -> tuple[Any, Mapping[str, memoryview]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            # torch.save does not compress; anything else could unpack to more than the file's size.
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise pickle.UnpicklingError("a compressed or encrypted zip file, which torch.save does not write")
            if sum(entry.file_size for entry in entries) > len(data):
                raise pickle.UnpicklingError("the zip file claims more bytes than it has")
            records = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError, struct.error) as error:
        raise pickle.UnpicklingError(f"damaged zip file: {error}") from error
    roots = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise pickle.UnpicklingError(f"a zip file with {len(roots)} data.pkl, where PyTorch's has one")
    if records.get(f"{roots[0]}byteorder", b"little") != b"little":
        raise pickle.UnpicklingError("saved on a big-endian machine: save it again on a little-endian one")
    contents = load_plain(io.BytesIO(records[f"{roots[0]}data.pkl"]), _ALLOWED, _persistent_storage)
    folder = f"{roots[0]}data/"
    return contents, {name.removeprefix(folder): memoryview(record) for name, record in records.items()}


def _read_legacy(data: bytes) -> tuple[Any, Mapping[str, memoryview]]:
    stream = io.BytesIO(data)
    if not data.startswith(b"\x80") or load_plain(stream) != _LEGACY_MAGIC:
        raise pickle.UnpicklingError("not written by torch.save")
    storages: dict[str, _Storage] = {}

    def persistent_load(identity: Any) -> _Storage:
        storage = _persistent_storage(identity)
        return storages.setdefault(storage.key, storage)

    _protocol, _machine = load_plain(stream), load_plain(stream)
    contents = load_plain(stream, _ALLOWED, persistent_load)
    keys = load_plain(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
        raise pickle.UnpicklingError("lists storages that no tensor has")
    buffers = {}
    for key in keys:
        storage = storages[key]
        numel = int.from_bytes(stream.read(8), "little")
        start = stream.tell()
        end = start + numel * storage.dtype.itemsize
        if numel != storage.numel or end > len(data):
            raise pickle.UnpicklingError(f"truncated, or storage {key:.50} has another size than its tensors say")
        buffers[key] = memoryview(data)[start:end]
        stream.seek(end)
    return contents, buffers


def _only_state_dict(contents: Any) -> dict[str, _Tensor]:
    """The tensors of the only dict that has any: one inside the file's dict, or that dict itself."""
    if not isinstance(contents, dict):
        raise pickle.UnpicklingError(f"holds a {type(contents).__name__}, where a state dict is a dict of tensors")
    inside = {str(name): tensors for name, value in contents.items() if (tensors := _tensors(value))}
    if len(inside) > 1:
        raise pickle.UnpicklingError(f"holds several state dicts ({', '.join(inside):.200}): save only one of them")
    tensors = next(iter(inside.values()), {}) or _tensors(contents)
    if not tensors:
        raise pickle.UnpicklingError("holds no tensors")
    return tensors


def _tensors(value: Any) -> dict[str, _Tensor]:
    if not isinstance(value, dict):
        return {}
    return {name: tensor for name, tensor in value.items() if isinstance(name, str) and isinstance(tensor, _Tensor)}


def _array(name: str, tensor: _Tensor, buffers: Mapping[str, memoryview]) -> np.ndarray:
    storage = tensor.storage
    buffer = buffers.get(storage.key)
    bytes_each = storage.dtype.itemsize
    if buffer is None or len(buffer) != storage.numel * bytes_each:
        raise pickle.UnpicklingError(f"tensor {name:.200}: its bytes are missing or incomplete (truncated?)")
    try:
        # numpy checks that the strides stay within the buffer.
        strides = [step * bytes_each for step in tensor.stride]
        return np.ndarray(tensor.size, storage.dtype, buffer, tensor.offset * bytes_each, strides)
    except (ValueError, TypeError, OverflowError) as error:
        raise pickle.UnpicklingError(
            f"tensor {name:.200}: size {tensor.size!s:.100} does not fit its storage"
        ) from error
