"""Records as TFDS stores them: serialised `tf.train.Example` messages, without TensorFlow and without TFDS.

Values are one per feature: bytes, a whole number or a number. The bytes of a record depend on its values alone, which
TFDS's own writer does not promise: the order of its features may differ from process to process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

Value = bytes | int | float

# https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
_PROTO = """
name: "record.proto" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Int64List" oneof_index: 0 }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".Features.Entry" }
  nested_type {
    name: "Entry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Feature" }
  }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Features" }
}
"""


def _example_class() -> Any:
    pool = descriptor_pool.DescriptorPool()  # its own, as TensorFlow's messages may be in the common one
    pool.Add(text_format.Parse(_PROTO, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))


_EXAMPLE = _example_class()


def encode_example(values: Mapping[str, Value]) -> bytes:
    """Serialises the values of one record."""
    example = _EXAMPLE()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def decode_example(record: bytes) -> dict[str, Value]:
    """Reads the values of one record; features that hold no value, or several, are left out.

    Raises:
      ValueError: it is not a `tf.train.Example`.
    """
    try:
        example = _EXAMPLE.FromString(record)
    except message.DecodeError as error:
        raise ValueError(f"is not a tf.train.Example ({error})") from error
    values: dict[str, Value] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found = list(getattr(feature, kind).value) if kind else []
        if len(found) == 1:
            values[name] = found[0]
    return values
