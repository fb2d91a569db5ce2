"""Record batches bent on purpose: any field of a header, any field of a record, given as it shall stand in the bytes.

What is not given is as a producer would have it; the CRC is right unless it is given, so that a broker looks further.
"""

import struct
import zlib
from collections.abc import Iterable

from kafkapy.records.batch import CRC_FROM, BatchHeader, Compression, assemble, checksum
from kafkapy.records.builder import write_varint
from kafkapy.records.compression import compress

AT = 1_700_000_000_000
"""The time of the first record (milliseconds); each that follows is a millisecond later."""

FIELDS = {
    "base_offset": (0, ">q"),
    "batch_length": (8, ">i"),
    "leader_epoch": (12, ">i"),
    "magic": (16, ">b"),
    "crc": (17, ">I"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "base_timestamp": (27, ">q"),
    "max_timestamp": (35, ">q"),
    "producer_id": (43, ">q"),
    "producer_epoch": (51, ">h"),
    "base_sequence": (53, ">i"),
    "record_count": (57, ">i"),
}
"""Where each field of a header lies, and how it is written."""


def bent(batch: bytes, **fields: int) -> bytes:
    """The batch with these fields of its header replaced, and the CRC computed anew unless it is one of them."""
    data = bytearray(batch)
    for name, value in fields.items():
        position, form = FIELDS[name]
        struct.pack_into(form, data, position, value)
    if "crc" not in fields:
        struct.pack_into(">I", data, FIELDS["crc"][0], checksum(memoryview(data)[CRC_FROM:]))
    return bytes(data)


def varint(value: int, least_bytes: int = 1) -> bytes:
    """A zigzag varint; padded with bytes that add nothing up to `least_bytes`."""
    out = bytearray()
    write_varint(out, value)
    while len(out) < least_bytes:
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def record(
    offset_delta: int | bytes = 0,
    *,
    attributes: int = 0,
    timestamp_delta: int | bytes | None = None,
    key: bytes | None = b"key",
    value: bytes | None = b"value",
    headers: Iterable[tuple[bytes | None, bytes | None]] = (),
    key_size: int | bytes | None = None,
    value_size: int | bytes | None = None,
    header_count: int | bytes | None = None,
    after: bytes = b"",
    length: int | bytes | None = None,
    longer_by: int = 0,
) -> bytes:
    """One record. Numbers may be given as the bytes that stand for them; sizes and counts need not fit.

    `after` follows the headers inside the record's length; `longer_by` is what the length says too much.
    """
    headers = list(headers)
    if timestamp_delta is None:
        timestamp_delta = offset_delta if isinstance(offset_delta, int) else 0
    body = bytes([attributes]) + _number(timestamp_delta) + _number(offset_delta)
    body += _field(key, key_size) + _field(value, value_size)
    body += _number(len(headers) if header_count is None else header_count)
    for name, content in headers:
        body += _field(name) + _field(content)
    body += after
    return _number(len(body) + longer_by if length is None else length) + body


def _number(value: int | bytes) -> bytes:
    return varint(value) if isinstance(value, int) else value


def _field(content: bytes | None, size: int | bytes | None = None) -> bytes:
    if size is None:
        size = -1 if content is None else len(content)
    return _number(size) + (content or b"")


def batch_of(
    records: Iterable[bytes],
    codec: Compression = Compression.NONE,
    *,
    payload: bytes | None = None,
    **fields: int,
) -> bytes:
    """A batch of these records; `payload` is what stands for them where the usual compression does not."""
    records = list(records)
    plain = b"".join(records)
    header = BatchHeader(
        base_offset=0,
        batch_length=0,
        leader_epoch=-1,
        magic=2,
        crc=0,
        attributes=codec,
        last_offset_delta=len(records) - 1,
        base_timestamp=AT,
        max_timestamp=AT + len(records) - 1,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=len(records),
    )
    batch = assemble(header, compress(codec, plain) if payload is None else payload)
    return bent(batch, **fields) if fields else batch


def message(
    magic: int,
    *,
    offset: int = 0,
    attributes: int = 0,
    timestamp: int = AT,
    key: bytes | None = b"key",
    value: bytes | None = b"value",
    crc: int | None = None,
) -> bytes:
    """One message of a message set, as Kafka wrote them before 0.11 (magic 0 and 1)."""
    body = struct.pack(">bB", magic, attributes) + (struct.pack(">q", timestamp) if magic else b"")
    for content in (key, value):
        body += struct.pack(">i", -1) if content is None else struct.pack(">i", len(content)) + content
    crc = zlib.crc32(body) if crc is None else crc
    return struct.pack(">qiI", offset, 4 + len(body), crc) + body
