"""Malformed text: as many U+FFFD for it as Java puts there, in every request, whatever the field."""

from typing import Any

import pytest
from codegen.spec import StructSpec
from spec_values import all_messages, project

from kafkapy.protocol.header import RequestHeader, decode_request_header, encode_request_header
from kafkapy.protocol.text import REPLACING, Replacing

# What Java 17 makes of these: `new String(bytes, UTF_8)`, each U+FFFD shown as a question mark.
JAVA = {
    "636166e9": "caf?",  # Latin-1 at the end
    "e9746f756666e9": "?touff?",
    "80": "?",  # what may only go on
    "8080": "??",
    "c080": "??",  # longer than need be
    "c141": "?A",
    "c2": "?",  # cut
    "c241": "?A",
    "e08080": "???",
    "e09f80": "???",
    "e0a0": "?",
    "e0a041": "?A",
    "e141": "?A",
    "e180": "?",
    "e18041": "?A",
    "eda080": "?",  # a surrogate is one
    "eda080edb080": "??",
    "edbfbf41": "?A",
    "eda041": "?A",
    "eda0": "?",
    "edb0c3a9": "?é",
    "eda0eda0": "??",
    "ed9fbf": "\ud7ff",  # the last before them
    "f0808080": "????",
    "f08fbfbf": "????",
    "f0908080": "\U00010000",
    "f09080": "?",
    "f09041": "?A",
    "f0908041": "?A",
    "f48fbfbf": "\U0010ffff",
    "f4908080": "????",
    "f5808080": "????",
    "f8888080": "????",
    "fe": "?",
    "ff41ff": "?A?",
    "4100": "A\x00",
    "efbfbd": "?",  # U+FFFD itself
}


@pytest.mark.parametrize("raw", JAVA)
def test_malformed_text_reads_as_in_java(raw: str) -> None:
    expected = JAVA[raw].replace("?", "\ufffd")
    assert bytes.fromhex(raw).decode("utf-8", REPLACING) == expected
    assert Replacing(b"before" + bytes.fromhex(raw))[6:].decode() == expected


def _values(struct: StructSpec, text: str) -> dict[str, Any]:
    """The text in every string of the struct, one element in every array."""
    values: dict[str, Any] = {}
    for field in struct.fields:
        if field.struct is not None:
            value: Any = _values(field.struct, text)
        else:
            value = text if field.base == "string" else _OTHERS.get(field.base, 1)
        values[field.attr] = [value] if field.is_array else value
    return values


_OTHERS = {"bool": True, "float64": 1.0, "uuid": bytes(range(16)), "bytes": b"bytes", "records": b"records"}
MESSAGES = all_messages()


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("raw", [b"caf\xe9", b"\xed\xa0\x80x"])
def test_malformed_text_is_replaced_in_every_string_of_every_version(name: str, raw: bytes) -> None:
    spec, cls = MESSAGES[name]
    stand_in = "#" * len(raw)
    for version in spec.all_versions():
        sent = b"".join(project(spec, cls, _values(spec.root, stand_in), version).encode(version, bytearray()))
        sent = sent.replace(stand_in.encode(), raw)
        decoded, end = cls.decode(version, sent)
        assert decoded == project(spec, cls, _values(spec.root, raw.decode("utf-8", REPLACING)), version)
        assert end == len(sent)


def test_a_client_id_that_is_malformed_is_read() -> None:
    for version in (4, 12):  # an old header, a flexible one
        out = bytearray()
        encode_request_header(1, version, 42, "caf#", out)
        frame = bytes(out).replace(b"caf#", b"caf\xe9") + b"body"
        assert decode_request_header(memoryview(frame)) == RequestHeader(1, version, 42, "caf\ufffd", len(out))
