"""Our bytes are kafka-python's bytes, field by field, for every API and version that kafka-python has.

What it lacks is compared with the Java client in `compat/codec/`.
"""

import uuid
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import kafka.protocol
import pytest
from codegen.spec import Field, MessageSpec, StructSpec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.protocol.api_message import ApiMessage
from spec_values import api_messages, project, tree

# kafka-python unpacks these into sets, under names of its own.
BIT_FIELDS = ("authorized_operations", "cluster_authorized_operations", "topic_authorized_operations")
# What Kafka has renamed since the release that kafka-python's schemas are from.
OLDER_NAMES = {("TxnOffsetCommitRequest", "generation_id_or_member_epoch"): "generation_id"}


def kafka_python_messages() -> dict[str, type[ApiMessage]]:
    """kafka-python's request and response classes by name."""

    def below(cls: type) -> Iterator[type]:
        for found in cls.__subclasses__():
            yield found
            yield from below(found)

    for package in ("admin", "consumer", "metadata", "producer"):
        folder = import_module(f"kafka.protocol.{package}")
        for module in iter_modules(folder.__path__):
            import_module(f"kafka.protocol.{package}.{module.name}")
    import_module("kafka.protocol.sasl")
    return {cls.name: cls for cls in below(ApiMessage) if cls._class_version is None}


assert kafka.protocol
OURS = api_messages()
THEIRS = kafka_python_messages()


def assert_same(theirs: Any, ours: Any, struct: StructSpec, version: int) -> None:
    for field in struct.fields:
        if field.versions.has(version) and field.attr not in BIT_FIELDS:
            their_name = OLDER_NAMES.get((struct.name, field.attr), field.attr)
            assert_same_field(getattr(theirs, their_name), getattr(ours, field.attr), field, version)


def assert_same_field(theirs: Any, ours: Any, field: Field, version: int) -> None:
    if field.is_array and theirs and ours:
        assert len(theirs) == len(ours)
        for their_item, our_item in zip(theirs, ours, strict=True):
            if field.struct is not None:
                assert_same(their_item, our_item, field.struct, version)
            else:
                assert plain(their_item) == our_item
    elif field.struct is not None and theirs and ours:
        assert_same(theirs, ours, field.struct, version)
    else:
        # A zero uuid, and a tagged field that is left out, are None to kafka-python.
        assert plain(theirs) == ours or (not theirs and ours in (None, [], bytes(16))), field.attr


def plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return value.bytes
    return bytes(value) if isinstance(value, memoryview) else value


def comparable(spec: MessageSpec, values: dict[str, Any]) -> dict[str, Any]:
    if spec.name == "ApiVersionsResponse":
        # With an error kafka-python reads version 0, whatever it asked for: right in a client, no help here.
        return values | {"error_code": 0}
    return values


def test_kafka_python_covers_most_of_the_table() -> None:
    assert len(OURS.keys() & THEIRS.keys()) >= 100


@pytest.mark.parametrize("name", sorted(OURS.keys() & THEIRS.keys()))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_kafka_python_reads_and_writes_the_same_bytes(name: str, data: st.DataObject) -> None:
    _, spec, cls = OURS[name]
    values = comparable(spec, data.draw(tree(spec.root)))
    for version in spec.all_versions():
        if version > THEIRS[name].max_version:
            continue
        ours = project(spec, cls, values, version)
        encoded = b"".join(ours.encode(version, bytearray()))
        theirs = THEIRS[name].decode(encoded, version=version)
        assert_same(theirs, ours, spec.root, version)
        theirs._header = None
        assert bytes(theirs.encode(version=version)) == encoded, f"version {version}"
