"""Files as `torch.save` writes them, put together opcode by opcode, so that the tests need no PyTorch."""

import io
import struct
import zipfile

import numpy as np

STORAGE_TYPES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}
MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
MACHINE = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def reference(module, name):
    return f"c{module}\n{name}\n".encode()


def dictionary(items):
    body = b"".join((integer(key) if isinstance(key, int) else text(key)) + value for key, value in items.items())
    return reference("collections", "OrderedDict") + b")R(" + body + b"u"


def tensor(key, dtype, numel, size, stride, offset=0, view=b"N"):
    """A tensor's opcodes; `view` is the legacy format's last field of a storage, b"" in the zip format."""
    storage = b"(" + text("storage") + reference("torch", STORAGE_TYPES[dtype]) + text(key) + text("cpu")
    storage += integer(numel) + view + b"tQ"
    hooks = reference("collections", "OrderedDict") + b")R"
    arguments = b"(" + storage + integer(offset) + integers(size) + integers(stride) + b"\x89" + hooks + b"t"
    return reference("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def array_tensor(key, array, view=b"N"):
    """A contiguous array's opcodes."""
    stride = [step // array.itemsize for step in np.ascontiguousarray(array).reshape(array.shape).strides]
    return tensor(key, array.dtype.name, array.size, array.shape, stride, view=view)


def legacy(contents, storages):
    """The legacy format: `contents` are opcodes, `storages` arrays by key."""
    keys = b"]" + b"(" + b"".join(map(text, storages)) + b"e"
    data = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return MAGIC + PROTOCOL + MACHINE + b"\x80\x02" + contents + b"." + b"\x80\x02" + keys + b"." + data


def zipped(contents, storages, compression=zipfile.ZIP_STORED, byteorder="little"):
    """The zip format."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + contents + b".")
        archive.writestr("archive/version", "3")
        archive.writestr("archive/byteorder", byteorder)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return stream.getvalue()


def state_dict(arrays, zip_format=False):
    """A state dict of contiguous arrays, in either format."""
    keys = {name: str(number) for number, name in enumerate(arrays)}
    view = b"" if zip_format else b"N"
    contents = dictionary({name: array_tensor(keys[name], array, view) for name, array in arrays.items()})
    storages = {keys[name]: array for name, array in arrays.items()}
    return zipped(contents, storages) if zip_format else legacy(contents, storages)
