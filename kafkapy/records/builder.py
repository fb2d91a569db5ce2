"""Builds batches: the coordinators' facts, control markers, what tests and tools send; and records written anew."""

from collections.abc import Iterator, Sequence
from typing import Final

from kafkapy.model import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP
from kafkapy.records.batch import BatchHeader, Compression, CorruptBatch, assemble, attributes_of
from kafkapy.records.compression import PIECE_BYTES, compress
from kafkapy.records.record import Record, read_record
from kafkapy.records.varints import read_int

_LARGEST_REBUILT_BYTES: Final = 64 << 20
"""A record that is written anew has to be in memory: larger ones are not."""

_RECORDS_A_PIECE: Final = 256


def build_batch(
    records: Sequence[Record],
    *,
    base_offset: int | None = None,
    leader_epoch: int = 0,
    compression: Compression = Compression.NONE,
    compression_level: int | None = None,
    log_append_time: bool = False,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
    control: bool = False,
) -> bytes:
    """One batch of these records, which must not be empty and stand in offset order.

    Offsets are kept relative to `base_offset` (the first record's offset when left out).
    """
    base = records[0].offset if base_offset is None else base_offset
    base_timestamp = records[0].timestamp
    body = bytearray()
    for record in records:
        _write_record(body, record, base, base_timestamp)
    header = BatchHeader(
        base_offset=base,
        batch_length=0,
        leader_epoch=leader_epoch,
        magic=2,
        crc=0,
        attributes=attributes_of(
            compression, log_append_time=log_append_time, transactional=transactional, control=control
        ),
        last_offset_delta=records[-1].offset - base,
        base_timestamp=base_timestamp,
        max_timestamp=max((record.timestamp for record in records), default=NO_TIMESTAMP),
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(records),
    )
    return assemble(header, compress(compression, body, compression_level))


def record_size_bytes(record: Record, base_offset: int, base_timestamp: int) -> int:
    """What the record takes in a batch that is not compressed."""
    out = bytearray()
    _write_record(out, record, base_offset, base_timestamp)
    return len(out)


def can_be_rebuilt(header: BatchHeader, earliest: int) -> bool:
    """Whether Kafka's builder would take a batch of this header, whose earliest record has this time."""
    if header.is_transactional and header.producer_id == NO_PRODUCER_ID:
        return False
    if header.producer_id != NO_PRODUCER_ID and (
        header.producer_epoch == NO_PRODUCER_EPOCH or header.base_sequence < 0
    ):
        return False
    return earliest >= NO_TIMESTAMP


def rebuilt(pieces: Iterator[bytes], header: BatchHeader) -> Iterator[bytes]:
    """The records in these plain bytes, which can be read, as a builder writes them, piece by piece.

    Their offsets are 0, 1, 2 …, their times relative to the first one's. Raises CorruptBatch at one beyond 64 MiB.
    """
    buf, position, base_timestamp = bytearray(), 0, NO_TIMESTAMP
    out = bytearray()
    for place in range(header.record_count):
        while not _is_whole(buf, position):
            del buf[:position]
            position = 0
            buf += next(pieces)
        record, position = read_record(buf, position, header)
        if place == 0:
            base_timestamp = record.timestamp
        _write_record(out, record._replace(offset=place), 0, base_timestamp)
        if len(out) >= PIECE_BYTES or place % _RECORDS_A_PIECE == 0:
            yield bytes(out)
            out.clear()
    yield bytes(out)


def _is_whole(buf: bytearray, position: int) -> bool:
    """Whether the record at this position is there to its end."""
    try:
        length, begin = read_int(buf, position)
    except IndexError:
        return False
    if length > _LARGEST_REBUILT_BYTES:
        raise CorruptBatch(f"a record of {length} bytes is too large to be written anew")
    return begin + length <= len(buf)


def _write_record(out: bytearray, record: Record, base_offset: int, base_timestamp: int) -> None:
    body = bytearray(1)  # attributes: none are defined
    write_varint(body, record.timestamp - base_timestamp)
    write_varint(body, record.offset - base_offset)
    _write_bytes(body, record.key)
    _write_bytes(body, record.value)
    write_varint(body, len(record.headers))
    for name, content in record.headers:
        _write_bytes(body, name.encode())
        _write_bytes(body, content)
    write_varint(out, len(body))
    out += body


def _write_bytes(out: bytearray, content: bytes | None) -> None:
    if content is None:
        write_varint(out, -1)
        return
    write_varint(out, len(content))
    out += content


def write_varint(out: bytearray, value: int) -> None:
    """Append a number as records have them: zigzag, seven bits a byte."""
    zigzag = (value << 1) ^ (value >> 63)
    while zigzag > 0x7F:
        out.append((zigzag & 0x7F) | 0x80)
        zigzag >>= 7
    out.append(zigzag)
