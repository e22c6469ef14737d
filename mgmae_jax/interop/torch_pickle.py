"""The tensors of a file that `torch.save` wrote, without PyTorch and without running anything from the file."""

import contextlib
import dataclasses
import functools
import mmap
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.restricted_pickle import MOST_ARGUMENTS, Reader, Skipped, few, load_plain

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of an entry of a zip file: its mark, and the lengths of name and extra
PREFERRED = ("model", "module", "state_dict", "model_ema")
"""Where the official programs keep a state dict; the first that a file has is taken."""
WHOLE = "(state dict)"
"""The name of a state dict that is the whole file."""
_SIDES = 64  # the most that a tensor may have, as numpy's arrays
_DEEP = 2  # how far inside one another the dicts of a file are looked at


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
    size, stride = (numbers.sizes if isinstance(numbers, _Size) else few(numbers, _SIDES) for numbers in (size, stride))
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("rebuilds a tensor from something other than a storage and sizes")
    return _Tensor(storage, offset, size, stride)


@dataclasses.dataclass(frozen=True)
class _Size:
    sizes: tuple[Any, ...]


def _size(sizes: Any = ()) -> _Size:
    return _Size(few(sizes, _SIDES))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _rebuild_from_type(function: Any, _type: Any, arguments: Any, _state: Any = None) -> Any:
    if function not in (_rebuild_tensor, _rebuild_parameter):
        return Skipped("a tensor's subclass")
    return function(*few(arguments, MOST_ARGUMENTS))


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
    # Types that no parameter here may have, but what a file keeps beside the parameters may.
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    "QInt8Storage": np.int8,
    "QUInt8Storage": np.uint8,
    "QInt32Storage": np.int32,
    "storage.UntypedStorage": np.uint8,
}

_ALLOWED = {f"torch.{name}": np.dtype(dtype) for name, dtype in _STORAGE_TYPES.items()} | {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
}


def _persistent_storage(identity: Any) -> _Storage:
    kind, dtype, key, _location, numel, *view = identity
    if isinstance(dtype, Skipped):
        raise pickle.UnpicklingError(f"has a storage of type {dtype.name:.200}, which is not read")
    if kind != "storage" or not (
        isinstance(dtype, np.dtype) and isinstance(key, str) and type(numel) is int and numel >= 0
    ):
        raise pickle.UnpicklingError("has a persistent id that is not a storage")
    if view not in ([], [None]):
        raise pickle.UnpicklingError("has storages that are views of others: save it again with a newer PyTorch")
    return _Storage(key, dtype, numel)


@dataclasses.dataclass(frozen=True)
class TorchFile:
    """What a file of `torch.save` holds; made by `open_torch_file`.

    Attributes:
      path: the file.
      state_dicts: the names of its state dicts, in its order, such as "model" and "model_ema"; or `WHOLE`.
      args: the options of the program that wrote it, if it keeps them as plain values in "args".
    """

    path: Path
    state_dicts: tuple[str, ...]
    args: Mapping[str, Any]
    _found: Mapping[str, Mapping[str, Any]]
    _buffer: Callable[[str], memoryview | None]
    _size: int

    def default(self) -> str:
        """The state dict that is taken unless another is asked for: see `PREFERRED`."""
        known = (name for name in PREFERRED if name in self.state_dicts)
        return next(known, self.state_dicts[0])

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """The tensors of one of `state_dicts`.

        Returns:
          Read-only arrays by name, which may be strided views of one another and of the mapped file, read when they
          are used; bfloat16 stays bfloat16.

        Raises:
          WeightsError: there is no such state dict, or a tensor of it is damaged or not plain.
        """
        if name not in self._found:
            raise WeightsError(self.path, f"has no state dict {name!r}: give one of {', '.join(self.state_dicts)}")
        with _explained(self.path):
            arrays = {key: _array(key, value, self._buffer) for key, value in self._found[name].items()}
        # Many tensors may be views of one storage, or a tensor repeat one value: a model has nothing of the kind, but a
        # small file could have more values than there is memory for.
        if (size := sum(array.nbytes for array in arrays.values())) > self._size:
            raise WeightsError(self.path, f"has {self._size} bytes, and tensors of {size} that share them")
        return arrays


def open_torch_file(path: str | Path) -> TorchFile:
    """Opens a PyTorch file, in the zip format or the older one.

    Nothing in the file can run: see `load_plain`. Numbers in the file are checked against its actual size before they
    are used. The file is mapped, not read: only the tensors that are used take memory.

    Args:
      path: a state dict, or a checkpoint with state dicts inside ("model", "state_dict", ...).

    Raises:
      WeightsError: no such file, damaged, not PyTorch's, or with contents other than state dicts.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if not size:
                raise WeightsError(path, "is empty")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise WeightsError(path, "no such file" if isinstance(error, FileNotFoundError) else str(error)) from error
    with _explained(path):
        read = _read_zip if bytes(data[:2]) == b"PK" else _read_legacy
        contents, buffer = read(path, data)
        found = _state_dicts(contents)
    args = (_dict(contents) or {}).get("args")
    options = args.state if isinstance(args, Skipped) and args.state else _dict(args) or {}
    return TorchFile(path, tuple(found), options, found, buffer, size)


@contextlib.contextmanager
def _explained(path: Path) -> Any:
    try:
        yield
    except pickle.UnpicklingError as error:
        raise WeightsError(path, f"cannot be read as a PyTorch state dict: {error}") from error


def _read_zip(path: Path, data: memoryview) -> tuple[Any, Callable[[str], memoryview | None]]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError, struct.error) as error:
        raise pickle.UnpicklingError(f"damaged zip file: {error}") from error
    # torch.save does not compress; anything else could unpack to more than the file's size.
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        what = "a compressed or encrypted zip file, which torch.save does not write (torch.jit.save does)"
        raise pickle.UnpicklingError(what)
    records = {entry.filename: entry for entry in entries}
    roots = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise pickle.UnpicklingError(f"a zip file with {len(roots)} data.pkl, where PyTorch's has one")

    def record(name: str) -> memoryview | None:
        return _record(data, records[name]) if name in records else None

    order = record(f"{roots[0]}byteorder")
    if order is not None and bytes(order[:9]) != b"little":
        raise pickle.UnpicklingError("saved on a big-endian machine: save it again on a little-endian one")
    contents = load_plain(Reader(_record(data, records[f"{roots[0]}data.pkl"])), _ALLOWED, _persistent_storage)
    # Cached, since a record is compared with its checksum, and many tensors may be views of one.
    return contents, functools.cache(lambda key: record(f"{roots[0]}data/{key}"))


def _record(data: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """The bytes of an entry that is not compressed, compared with its checksum."""
    try:
        mark, name, extra = _LOCAL_HEADER.unpack_from(data, entry.header_offset)
    except struct.error as error:
        raise pickle.UnpicklingError(f"damaged zip file: {error}") from error
    start = entry.header_offset + _LOCAL_HEADER.size + name + extra
    record = data[start : start + entry.file_size]
    if mark != b"PK\x03\x04" or len(record) != entry.file_size or zlib.crc32(record) != entry.CRC:
        raise pickle.UnpicklingError(f"damaged zip file: {entry.filename:.200} is not what its checksum says")
    return record


def _read_legacy(path: Path, data: memoryview) -> tuple[Any, Callable[[str], memoryview | None]]:
    reader = Reader(data)
    if bytes(data[:1]) != b"\x80" or load_plain(reader) != _LEGACY_MAGIC:
        raise pickle.UnpicklingError("not written by torch.save")
    storages: dict[str, _Storage] = {}

    def persistent_load(identity: Any) -> _Storage:
        storage = _persistent_storage(identity)
        return storages.setdefault(storage.key, storage)

    _protocol, _machine = load_plain(reader), load_plain(reader)
    contents = load_plain(reader, _ALLOWED, persistent_load)
    keys = load_plain(reader)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
        raise pickle.UnpicklingError("lists storages that no tensor has")
    buffers = {}
    for key in keys:
        storage = storages[key]
        numel = int.from_bytes(data[reader.position : reader.position + 8], "little")
        start = reader.position + 8
        end = start + numel * storage.dtype.itemsize
        if numel != storage.numel or end > len(data):
            raise pickle.UnpicklingError(f"truncated, or storage {key:.50} has another size than its tensors say")
        buffers[key] = data[start:end]
        reader.position = end
    return contents, buffers.get


def _state_dicts(contents: Any) -> dict[str, dict[str, Any]]:
    """The dicts that hold tensors: those inside the file's dict, named by the keys to them, or that dict itself."""
    whole = _dict(contents)
    if whole is None:
        what = f"{contents.name:.200}, which is refused" if isinstance(contents, Skipped) else type(contents).__name__
        what = "tensor" if isinstance(contents, _Tensor) else what
        raise pickle.UnpicklingError(f"holds a {what}, where a state dict is a dict of tensors")
    found: dict[str, dict[str, Any]] = {}
    seen = {id(whole)}  # a dict that a file holds many times over is looked at once

    def look(inside: Mapping[Any, Any], prefix: str, depth: int) -> None:
        for name, held in inside.items():
            value = _dict(held)
            if value is not None and id(value) not in seen and isinstance(name, str):
                seen.add(id(value))
                if tensors := _tensors(value):
                    found.setdefault(f"{prefix}{name}", tensors)
                elif depth > 1:
                    look(value, f"{prefix}{name}.", depth - 1)

    look(whole, "", _DEEP)
    if not found and (tensors := _tensors(whole)):
        found[WHOLE] = tensors
    if not found:
        raise pickle.UnpicklingError(f"holds no tensors, or only deeper than in {_DEEP} dicts inside one another")
    return found


def _dict(value: Any) -> Mapping[Any, Any] | None:
    """A dict, or what an object of a kind of dict held; None for anything else."""
    if isinstance(value, Skipped):
        return value.items or None
    return value if isinstance(value, dict) else None


def _tensors(value: Mapping[Any, Any]) -> dict[str, Any]:
    """The items of a state dict, with whatever stands for a tensor; empty if the dict has no tensor."""
    named = {name: item for name, item in value.items() if isinstance(name, str)}
    kinds = (_Tensor, Skipped)
    if not any(isinstance(item, kinds) and _is_tensor(item) for item in named.values()):
        return {}
    return {name: item for name, item in named.items() if isinstance(item, kinds) and not _is_scalar(item)}


def _is_tensor(item: _Tensor | Skipped) -> bool:
    """Whether this is a tensor, also one of a type that is not read."""
    return isinstance(item, _Tensor) or item.name.startswith("torch._utils._rebuild_")


def _is_scalar(item: Any) -> bool:
    """Whether this is a number of numpy's or an option, such as a program keeps beside the tensors of a state dict."""
    return isinstance(item, Skipped) and "tensor" not in item.name


def _array(name: str, tensor: Any, buffer: Callable[[str], memoryview | None]) -> np.ndarray:
    if isinstance(tensor, Skipped):
        raise pickle.UnpicklingError(f"tensor {name:.200} is made by {tensor.name:.200}, which is not read")
    storage = tensor.storage
    found = buffer(storage.key)
    bytes_each = storage.dtype.itemsize
    if found is None or len(found) != storage.numel * bytes_each:
        raise pickle.UnpicklingError(f"tensor {name:.200}: its bytes are missing or incomplete (truncated?)")
    try:
        # numpy checks that the strides stay within the buffer.
        strides = [step * bytes_each for step in tensor.stride]
        return np.ndarray(tensor.size, storage.dtype, found, tensor.offset * bytes_each, strides)
    except (ValueError, TypeError, OverflowError) as error:
        raise pickle.UnpicklingError(
            f"tensor {name:.200}: size {tensor.size!s:.100} does not fit its storage"
        ) from error
