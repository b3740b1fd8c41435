"""TensorFlow's Example and SequenceExample, without tensorflow."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# The descriptors are tensorflow's own (names and numbers of example.proto and feature.proto), in a pool of our own:
# tensorflow registers the same names in the default pool when both live in one process.
_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {"bytes": _FIELD.TYPE_BYTES, "float": _FIELD.TYPE_FLOAT, "int64": _FIELD.TYPE_INT64}
_MESSAGES: dict[str, list[tuple[str, str, bool]]] = {
    "BytesList": [("value", "bytes", True)],
    "FloatList": [("value", "float", True)],
    "Int64List": [("value", "int64", True)],
    "Feature": [
        ("bytes_list", "BytesList", False),
        ("float_list", "FloatList", False),
        ("int64_list", "Int64List", False),
    ],
    "Features": [("feature", "map<Feature>", True)],
    "FeatureList": [("feature", "Feature", True)],
    "FeatureLists": [("feature_list", "map<FeatureList>", True)],
    "Example": [("features", "Features", False)],
    "SequenceExample": [("context", "Features", False), ("feature_lists", "FeatureLists", False)],
}


def _add_map_entry(message: Any, field_name: str, value_type: str) -> str:
    entry = message.nested_type.add(name="".join(word.title() for word in field_name.split("_")) + "Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=_FIELD.TYPE_MESSAGE,
        label=_FIELD.LABEL_OPTIONAL,
        type_name=f".tensorflow.{value_type}",
    )
    return f"{message.name}.{entry.name}"


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="shardmill/example.proto", package="tensorflow", syntax="proto3")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for number, (name, kind, repeated) in enumerate(fields, start=1):
            field = message.field.add(name=name, number=number)
            field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if kind in _KINDS:
                field.type = _KINDS[kind]
                continue
            type_name = _add_map_entry(message, name, kind[4:-1]) if kind.startswith("map<") else kind
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".tensorflow.{type_name}"
            if message_name == "Feature":
                field.oneof_index = 0
        if message_name == "Feature":
            message.oneof_decl.add(name="kind")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("Example", "SequenceExample")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.{name}")) for name in names}


_CLASSES = _message_classes()
Example: Any = _CLASSES["Example"]
SequenceExample: Any = _CLASSES["SequenceExample"]
