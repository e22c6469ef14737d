"""Files of named tensors: PyTorch's, safetensors, and the folders that Hugging Face keeps either of them in."""

import dataclasses
import json
import mmap
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.model_folder import INDEX, WEIGHTS_FILES
from mgmae_jax.interop.torch_pickle import WHOLE, open_torch_file

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
# The zip format, and the older one, a pickled number in any of pickle's formats that have it in this form; safetensors
# starts with the length of its header.
_TORCH_STARTS = re.compile(rb"PK\x03\x04|\x80[\x02\x03]\x8a\x0a|\x80[\x04\x05]\x95.{8}\x8a\x0a", re.DOTALL)
_MOST_JSON = 1 << 24  # bytes of a config.json, an index or a header


@dataclasses.dataclass(frozen=True)
class TensorFile:
    """The tensors of one model, as they are called in its file.

    Attributes:
      path: the file, or the folder.
      tensors: read-only arrays by name, views of the mapped file.
      taken: the state dict that they come from, if the file has names for them.
      others: the names of its other state dicts.
      args: the options of the program that wrote it, if it keeps them.
      metadata: what a safetensors file says about itself.
      files: the files that were read.
    """

    path: Path
    tensors: Mapping[str, np.ndarray]
    files: tuple[Path, ...]
    taken: str | None = None
    others: tuple[str, ...] = ()
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


def open_tensors(path: Path, take: str | None = None) -> TensorFile:
    """Opens a file or a Hugging Face folder; the format is detected from the contents, not from the name.

    Args:
      path: the file or folder.
      take: which state dict of a PyTorch file; the first of `PREFERRED` by default.

    Raises:
      WeightsError: there is no such file or state dict, it is damaged, or of another format.
    """
    if not path.is_dir():
        return _open_file(path, take)
    for name in WEIGHTS_FILES:
        if (path / name).is_file():
            return dataclasses.replace(_open_file(path / name, take), path=path)
        if (path / f"{name}{INDEX}").is_file():
            return _open_parts(path, path / f"{name}{INDEX}", take)
    raise WeightsError(path, f"holds neither a checkpoint of a run nor a model ({', '.join(WEIGHTS_FILES)})")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a small JSON object.

    Raises:
      WeightsError: it cannot be read, is too large, or is something else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_JSON + 1)
        if len(text) > _MOST_JSON:
            raise ValueError(f"more than {_MOST_JSON} bytes")
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(path, f"cannot be read ({str(error) or type(error).__name__})") from error
    return found


def forget_pages(tensor: np.ndarray) -> None:
    """Lets go of the memory of the mapped file behind a tensor, where there is one; it is read again when it is used.

    Otherwise a whole file stays in memory beside the copies that were made of it.
    """
    base: Any = tensor
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _open_file(path: Path, take: str | None) -> TensorFile:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise WeightsError(path, reason) from error
    if _TORCH_STARTS.match(head):
        found = open_torch_file(path)
        taken = take or found.default()
        others = tuple(name for name in found.state_dicts if name != taken)
        named = None if taken == WHOLE else taken
        return TensorFile(path, found.tensors(taken), (path,), named, others, found.args)
    if take is not None:
        raise WeightsError(path, f"has no state dict {take!r}: a choice is only in PyTorch's files")
    return _open_safetensors(path)


def _open_safetensors(path: Path) -> TensorFile:
    try:
        with safetensors.safe_open(path, framework="np") as opened:  # checks the header, and bounds its size
            metadata = dict(opened.metadata() or {})
    except safetensors.SafetensorError as error:
        raise WeightsError(path, f"is neither PyTorch's nor safetensors ({error})") from error
    except OSError as error:
        raise WeightsError(path, f"cannot be read ({error.strerror or error})") from error
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    (length,) = struct.unpack_from("<Q", data)
    if length > _MOST_JSON:
        raise WeightsError(path, f"has a header of {length} bytes, more than {_MOST_JSON}")
    tensors = {}
    for name, about in json.loads(bytes(data[8 : 8 + length])).items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in _DTYPES:
            raise WeightsError(
                path, f"tensor {name:.200} is of type {about['dtype']}: give float32, float16 or bfloat16"
            )
        start = 8 + length + about["data_offsets"][0]
        try:
            tensors[name] = np.ndarray(about["shape"], _DTYPES[about["dtype"]], data, start)
        except ValueError as error:  # no elements, but a side or a number of sides beyond any array's
            raise WeightsError(path, f"tensor {name:.200} has the shape {about['shape']!s:.100} ({error})") from error
    return TensorFile(path, tensors, (path,), metadata=metadata)


def _open_parts(folder: Path, index: Path, take: str | None) -> TensorFile:
    """A model that is split over several files, which an index lists."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(_is_beside(name) for name in places.values()):
        raise WeightsError(index, "is not an index of the files beside it")
    tensors: dict[str, np.ndarray] = {}
    files = tuple(folder / name for name in sorted(set(places.values())))
    for file in files:
        found = _open_file(file, take).tensors
        if twice := sorted(found.keys() & tensors.keys()):
            raise WeightsError(file, f"holds {twice[0]}, as another file that {index.name} lists does")
        tensors |= found
    if missing := sorted(places.keys() - tensors.keys()):
        raise WeightsError(index, f"lists {missing[0]}, which {places[missing[0]]} does not hold")
    return TensorFile(folder, tensors, files)


def _is_beside(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and name not in ("", "..")
