#!/usr/bin/env python3
"""The fuzz target of the protocol: bytes from a stranger end in a message or in `ProtocolError`, nothing else.

    tests/fuzz/fuzz_protocol.py tests/fuzz/corpus/protocol      fuzz until something breaks (needs atheris)
    tests/fuzz/fuzz_protocol.py --write-corpus                  write one sample of every message a broker reads

An input is two bytes that choose the message (its place in `TARGETS`), one that chooses the version, and the body. The
whole input is also read as a request header and as a stream of frames. `test_fuzz_protocol.py` runs this target on the
corpus and on mutations of it, always the same ones.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = Path(__file__).resolve().parent / "corpus" / "protocol"
for folder in (ROOT, ROOT / "scripts"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from codegen.spec import MessageSpec, StructSpec, load_apis, load_journals  # noqa: E402

from kafkapy.protocol.frame import FrameReader  # noqa: E402
from kafkapy.protocol.header import decode_request_header  # noqa: E402
from kafkapy.protocol.primitives import Message, ProtocolError  # noqa: E402


def targets() -> list[tuple[MessageSpec, type[Message]]]:
    """Every message: requests first, then journal records, then responses."""
    found: list[tuple[MessageSpec, type[Message]]] = []
    apis = load_apis()
    for which in (0, 1):
        for api in apis:
            module = import_module(f"kafkapy.protocol.messages.{api.module}")
            found.append((api.messages[which], getattr(module, api.messages[which].name)))
        if which == 0:
            for name, records in load_journals().items():
                module = import_module(f"kafkapy.protocol.journal.{name}")
                found += [(record, getattr(module, record.name)) for record in records]
    return found


TARGETS = targets()


def choice(data: bytes) -> tuple[MessageSpec, type[Message], int]:
    """The message and the version that an input is about."""
    spec, cls = TARGETS[int.from_bytes(data[:2], "big") % len(TARGETS)]
    versions = spec.all_versions()
    return spec, cls, versions[data[2] % len(versions)]


def check_message(data: bytes) -> None:
    """Decode; what decodes must encode, and mean the same when it is read again."""
    if len(data) < 3:
        return
    _, cls, version = choice(data)
    try:
        message, end = cls.decode(version, data, 3)
    except ProtocolError:
        return
    assert end <= len(data)
    encoded = b"".join(message.encode(version, bytearray()))
    again, length = cls.decode(version, encoded)
    # NaN is not equal to itself; the bytes settle it.
    assert again == message or b"".join(again.encode(version, bytearray())) == encoded
    assert length == len(encoded)


def check_header(data: bytes) -> None:
    try:
        header = decode_request_header(data)
    except ProtocolError:
        return
    assert 8 <= header.body_offset <= len(data)


def check_frames(data: bytes) -> None:
    reader = FrameReader(1000)
    at = total = 0
    try:
        while at < len(data):
            room = reader.writable()
            piece = data[at : at + min(7, len(room))]
            room[: len(piece)] = piece
            reader.received(len(piece))
            at += len(piece)
            while (frame := reader.next_frame()) is not None:
                total += 4 + len(frame)
    except ProtocolError:
        return
    assert total <= len(data)


def check(data: bytes) -> None:
    """The target."""
    check_message(data)
    check_header(data)
    check_frames(data)


SAMPLES = {
    "bool": True,
    "float64": 1.5,
    "uuid": bytes(range(16)),
    "string": "text",
    "bytes": b"bytes",
    "records": b"records",
}


def sample(struct: StructSpec, cls: type, owner: type, version: int) -> Any:
    """A struct with every field of the version set and one element in every array."""
    result = cls()
    for field in struct.fields:
        if field.versions.has(version):
            value = SAMPLES.get(field.base, 7)
            if field.struct is not None:
                value = sample(field.struct, getattr(owner, field.base), owner, version)
            setattr(result, field.attr, [value] if field.is_array else value)
    return result


def write_corpus() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for index, (spec, cls) in enumerate(TARGETS):
        if spec.name.endswith("Response"):
            continue
        version = spec.versions.high
        message = sample(spec.root, cls, cls, version)
        body = b"".join(message.encode(version, bytearray()))
        head = index.to_bytes(2, "big") + bytes([version - spec.versions.low])
        (CORPUS / spec.name).write_bytes(head + body)


def main() -> None:
    if "--write-corpus" in sys.argv:
        write_corpus()
        return
    import atheris

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
