"""RecordBatch v2 as bytes: its 61-byte header, its CRC, and the few fields that a broker may change.

Everything here works on any buffer without copying records. The broker gives a batch its base offset and leader epoch;
both lie before the part that the CRC covers, so `stamp` replaces the first 16 bytes and nothing else. Only
`restamp_time` rewrites a batch, for topics whose timestamps are the broker's.

Layout (big endian): base offset 8, batch length 4, leader epoch 4, magic 1, CRC-32C 4 (of all that follows),
attributes 2, last offset delta 4, base timestamp 8, max timestamp 8, producer id 8, producer epoch 2,
base sequence 4, record count 4, records. Source: the "Message Format" chapter of Kafka's documentation, KIP-98.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from crc32c import crc32c

Buffer = bytes | bytearray | memoryview

HEADER_SIZE = 61
LOG_OVERHEAD = 12
"""Bytes before the part that the batch length counts."""

MAGIC = 2
STAMP_SIZE = 16
CRC_FROM = 21
"""Where the part begins that the CRC covers."""

MAX_SEQUENCE = 2**31 - 1

_HEADER = struct.Struct(">qiibIhiqqqhii")
_STAMP = struct.Struct(">qii")
_LENGTH_AT = 8
_MAGIC_AT = 16
_CRC_AT = 17
_MAX_TIMESTAMP_AT = 35

_COMPRESSION_MASK = 0x07
_LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
"""The attribute bit of a batch that belongs to a transaction."""
CONTROL = 0x20
"""The attribute bit of a batch that holds a marker instead of records."""
DELETE_HORIZON = 0x40
"""The attribute bit of a batch whose base timestamp says when its tombstones, or its marker, may go (KIP-534)."""
_KEPT_ATTRIBUTES = _COMPRESSION_MASK | TRANSACTIONAL | CONTROL | DELETE_HORIZON


class Compression(IntEnum):
    """How a batch's records are compressed; the value is what the attributes carry."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class CorruptBatch(Exception):
    """These bytes are not a RecordBatch v2; the text says what is wrong."""


class BatchHeader(NamedTuple):
    """The header's fields in wire order."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """The whole batch, header included."""
        return LOG_OVERHEAD + self.batch_length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record; numbers wrap from 2147483647 to 0."""
        if self.base_sequence < 0:
            return self.base_sequence
        return advance_sequence(self.base_sequence, self.last_offset_delta)

    @property
    def codec(self) -> int:
        """The compression bits as they are; 5 to 7 name nothing."""
        return self.attributes & _COMPRESSION_MASK

    @property
    def compression(self) -> Compression:
        """The compression type; CorruptBatch when the bits name none."""
        try:
            return Compression(self.attributes & _COMPRESSION_MASK)
        except ValueError:
            raise CorruptBatch(f"unknown compression type {self.codec}") from None

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & _LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def has_delete_horizon(self) -> bool:
        """The base timestamp is a delete horizon (KIP-534), not the first record's time."""
        return bool(self.attributes & DELETE_HORIZON)

    @property
    def has_producer(self) -> bool:
        return self.producer_id >= 0


_header_of: Callable[[tuple[int, ...]], BatchHeader] = partial(tuple.__new__, BatchHeader)
"""`BatchHeader._make` without counting what a layout of 13 fields unpacks: this is done with every request."""


def advance_sequence(sequence: int, count: int) -> int:
    """The sequence number `count` records later."""
    return (sequence + count) & MAX_SEQUENCE


def attributes_of(
    compression: Compression = Compression.NONE,
    *,
    log_append_time: bool = False,
    transactional: bool = False,
    control: bool = False,
) -> int:
    """The attribute bits of a batch."""
    return (
        compression
        | (_LOG_APPEND_TIME if log_append_time else 0)
        | (TRANSACTIONAL if transactional else 0)
        | (CONTROL if control else 0)
    )


def read_header(buf: Buffer, position: int = 0) -> BatchHeader:
    """The header of the batch at `position`; the rest of the batch need not be there.

    Raises CorruptBatch when there are fewer than 61 bytes, the length is impossible, or the magic byte is not 2.
    """
    if len(buf) - position < HEADER_SIZE:
        raise CorruptBatch(f"{len(buf) - position} bytes are too few for a batch header")
    fields = _HEADER.unpack_from(buf, position)
    batch_length, magic = fields[1], fields[3]
    if magic != MAGIC:
        raise CorruptBatch(f"magic {magic} is not {MAGIC}")
    if batch_length < HEADER_SIZE - LOG_OVERHEAD:
        raise CorruptBatch(f"batch length {batch_length} is too small")
    return _header_of(fields)


def walk(buf: Buffer, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of each whole batch from `position` on; a partial batch at the end is left out."""
    end = len(buf)
    while end - position >= HEADER_SIZE:
        header = read_header(buf, position)
        if header.size_bytes > end - position:
            return
        yield position, header
        position += header.size_bytes


checksum: Callable[[Buffer], int] = crc32c
"""CRC-32C, which Kafka uses for batches and for its checkpoint files."""

stamp: Callable[[int, int, int], bytes] = _STAMP.pack
"""The first 16 bytes of a batch, of its base offset, batch length and leader epoch: what the broker decides."""


def crc_matches(buf: Buffer, position: int, header: BatchHeader) -> bool:
    """Whether the batch's bytes have the CRC that its header names."""
    body = memoryview(buf)[position + CRC_FROM : position + LOG_OVERHEAD + header.batch_length]
    return checksum(body) == header.crc


def restamp_time(buf: Buffer, header: BatchHeader, max_timestamp: int, *, log_append_time: bool) -> bytes:
    """A copy of one batch with this timestamp type and largest timestamp; attributes that mean nothing fall away."""
    attributes = header.attributes & _KEPT_ATTRIBUTES | (_LOG_APPEND_TIME if log_append_time else 0)
    batch = bytearray(buf[: header.size_bytes])
    struct.pack_into(">h", batch, CRC_FROM, attributes)
    struct.pack_into(">q", batch, _MAX_TIMESTAMP_AT, max_timestamp)
    struct.pack_into(">I", batch, _CRC_AT, checksum(memoryview(batch)[CRC_FROM:]))
    return bytes(batch)


def assemble(header: BatchHeader, records: Buffer) -> bytes:
    """A batch of this header and these (possibly compressed) record bytes; length and CRC are computed here."""
    batch = bytearray(HEADER_SIZE + len(records))
    length = len(batch) - LOG_OVERHEAD
    _HEADER.pack_into(batch, 0, *header._replace(batch_length=length, magic=MAGIC, crc=0))
    batch[HEADER_SIZE:] = records
    struct.pack_into(">I", batch, _CRC_AT, checksum(memoryview(batch)[CRC_FROM:]))
    return bytes(batch)
