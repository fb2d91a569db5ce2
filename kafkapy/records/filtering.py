"""The records of a batch by their keys, and the batch that some of them make: what compaction does to a batch.

A record is told by where it lies among the plain bytes, and is copied from there: nobody needs its value or headers.
Of a batch that loses records Kafka keeps base offset, last offset, sequence numbers and codec; its base timestamp
becomes the first record's, or says when its tombstones may go (KIP-534), so that the records' times are told anew.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from kafkapy.model import NO_TIMESTAMP
from kafkapy.records.batch import (
    DELETE_HORIZON,
    HEADER_SIZE,
    BatchHeader,
    Buffer,
    Compression,
    CorruptBatch,
    assemble,
    attributes_of,
)
from kafkapy.records.builder import write_varint
from kafkapy.records.compression import DEFAULT_MAX_SIZE_BYTES, compress, inflate
from kafkapy.records.varints import read_int, read_long
from kafkapy.turns import Steps

RECORDS_A_STEP: Final = 16
"""About a fifth of a millisecond's work, with the search for their keys: others wait for one or two such steps."""


class KeyedRecord(NamedTuple):
    """A record in [begin, end) of the plain bytes; what follows its timestamp begins at `after_time`."""

    begin: int
    after_time: int
    end: int
    timestamp_delta: int
    offset_delta: int
    key: bytes | None
    is_tombstone: bool


class Remade(NamedTuple):
    """A batch yet to be put together: its header, but for length and CRC, and its records as they are uncompressed."""

    header: BatchHeader
    plain: Buffer

    def assemble(self) -> bytes:
        """The batch, compressed as its header says."""
        return assemble(self.header, compress(self.header.compression, self.plain))


def inflated(batch: Buffer, header: BatchHeader) -> Steps[bytes]:
    """The plain bytes of the batch's records. Raises CorruptBatch, also beyond the bound of all that is inflated."""
    body = memoryview(batch)[HEADER_SIZE : header.size_bytes]
    if not header.codec:
        return bytes(body)
    pieces: list[bytes] = []
    size = 0
    for piece in inflate(header.compression, body):
        size += len(piece)
        if size > DEFAULT_MAX_SIZE_BYTES:
            raise CorruptBatch(f"records inflate beyond {DEFAULT_MAX_SIZE_BYTES} bytes")
        if pieces:
            yield
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def keyed_records(plain: bytes, header: BatchHeader) -> Iterator[list[KeyedRecord]]:
    """The records among these bytes, up to `RECORDS_A_STEP` at a time. Raises CorruptBatch.

    As with Kafka the length of a record says nothing where a batch is compressed. Numbers of one or two bytes, which
    nearly all are, are read without a call.
    """
    position, count, is_plain = 0, header.record_count, not header.codec
    made = KeyedRecord._make
    try:
        while count > 0:
            found = []
            for _ in range(min(count, RECORDS_A_STEP)):
                begin = position
                number = plain[position]
                if number > 0x7F and (second := plain[position + 1]) < 0x80:
                    number = number & 0x7F | second << 7
                    length = (number >> 1) ^ -(number & 1)
                    position += 2
                else:
                    length, position = read_int(plain, position)
                expected = position + length
                position += 1  # attributes: none are defined
                number = plain[position]
                if number < 0x80:
                    timestamp_delta, after_time = (number >> 1) ^ -(number & 1), position + 1
                else:
                    timestamp_delta, after_time = read_long(plain, position)
                number = plain[after_time]
                if number < 0x80:
                    offset_delta, position = (number >> 1) ^ -(number & 1), after_time + 1
                else:
                    offset_delta, position = read_int(plain, after_time)
                number = plain[position]
                if number < 0x80 and not number & 1:
                    begin_key = position + 1
                    position = begin_key + (number >> 1)
                    key: bytes | None = plain[begin_key:position]
                else:
                    key_size, begin_key = read_int(plain, position)
                    position = begin_key + max(key_size, 0)
                    key = plain[begin_key:position] if key_size >= 0 else None
                number = plain[position]
                if number < 0x80:
                    value_size = (number >> 1) ^ -(number & 1)
                    position += 1
                elif (second := plain[position + 1]) < 0x80:
                    value_size = (number & 0x7F | second << 7) >> 1 if not number & 1 else -1
                    position += 2
                else:
                    value_size, position = read_int(plain, position)
                if value_size > 0:
                    position += value_size
                position = _behind_headers(plain, position) if plain[position] else position + 1
                if is_plain and position != expected:
                    raise CorruptBatch(f"a record's fields end {expected - position} bytes before its length")
                found.append(made((begin, after_time, position, timestamp_delta, offset_delta, key, value_size < 0)))
            count -= len(found)
            yield found
    except IndexError:
        raise CorruptBatch("a record is cut off") from None
    if position != len(plain):
        raise CorruptBatch(f"{len(plain) - position} bytes left over after the last record")


def remake(
    header: BatchHeader, plain: bytes, records: Sequence[KeyedRecord], delete_horizon_ms: int | None
) -> Steps[Remade]:
    """The batch with these of its records alone, at least one; a delete horizon goes into its header."""
    if header.is_log_append_time:
        times = [header.max_timestamp] * len(records)
    else:
        times = [header.base_timestamp + record.timestamp_delta for record in records]
    base = times[0] if delete_horizon_ms is None else delete_horizon_ms
    body = bytearray()
    for number, (record, time) in enumerate(zip(records, times, strict=True), 1):
        begin, after_time, end, timestamp_delta, *_ = record
        if time - base == timestamp_delta:
            body += plain[begin:end]
        else:
            fields = bytearray(1)
            write_varint(fields, time - base)
            write_varint(body, len(fields) + end - after_time)
            body += fields
            body += plain[after_time:end]
        if number % RECORDS_A_STEP == 0:
            yield
    made = header._replace(
        attributes=header.attributes if delete_horizon_ms is None else header.attributes | DELETE_HORIZON,
        base_timestamp=base,
        max_timestamp=max(times),
        record_count=len(records),
    )
    return Remade(made, body)


def emptied(header: BatchHeader) -> Remade:
    """What is left of a batch that has lost its records, and is kept for its sequence numbers or its last offset."""
    attributes = attributes_of(
        Compression.NONE,
        log_append_time=header.is_log_append_time,
        transactional=header.is_transactional,
        control=header.is_control,
    )
    return Remade(header._replace(attributes=attributes, base_timestamp=NO_TIMESTAMP, record_count=0), b"")


def _behind_headers(buf: bytes, position: int) -> int:
    count, position = read_int(buf, position)
    for _ in range(2 * count):
        size, position = read_int(buf, position)
        position += max(size, 0)
    return position
