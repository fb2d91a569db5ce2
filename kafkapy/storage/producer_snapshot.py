"""The producers of a log as a snapshot file holds them.

Version 2, CRC-32C 4 (of what follows), count 4, then a row a producer, which holds its last batch. Then, where Apache
Kafka does not look any more: count 4, and a row for each batch, the oldest first, of the producers of whom the first
row does not say all. Called by the stores that have files, and by those who check these.
"""

import struct

from kafkapy.model import NO_SEQUENCE
from kafkapy.records.batch import MAX_SEQUENCE, checksum
from kafkapy.storage.sequencing import BatchMark, Producer

_SNAPSHOT_VERSION = 1
_SNAPSHOT_HEAD = struct.Struct(">hI")
_SNAPSHOT_COUNT = struct.Struct(">i")
_SNAPSHOT_ROW = struct.Struct(">qhiqiqiq")
_BATCH_ROW = struct.Struct(">qiqiq")


def encode_snapshot(producers: dict[int, Producer]) -> bytes:
    """The producers as a snapshot file holds them."""
    body = bytearray(_SNAPSHOT_COUNT.pack(len(producers)))
    more: list[tuple[int, BatchMark]] = []
    for producer_id, producer in producers.items():
        last = producer.batches[-1] if producer.batches else None
        body += _SNAPSHOT_ROW.pack(
            producer_id,
            producer.epoch,
            last.last_sequence if last else NO_SEQUENCE,
            last.last_offset if last else -1,
            last.last_offset - last.first_offset if last else 0,
            producer.last_timestamp,
            producer.coordinator_epoch,
            -1 if producer.transaction_start is None else producer.transaction_start,
        )
        if last is not None and (len(producer.batches) > 1 or last.timestamp != producer.last_timestamp):
            more += [(producer_id, mark) for mark in producer.batches if mark.last_sequence >= 0]
    if more:
        body += _SNAPSHOT_COUNT.pack(len(more))
        for producer_id, (_, last_sequence, first_offset, last_offset, timestamp) in more:
            body += _BATCH_ROW.pack(producer_id, last_sequence, last_offset, last_offset - first_offset, timestamp)
    return _SNAPSHOT_HEAD.pack(_SNAPSHOT_VERSION, checksum(body)) + body


def decode_snapshot(data: bytes) -> dict[int, Producer]:
    """The producers in a snapshot file; ValueError when it is damaged.

    One that Apache Kafka wrote knows the last batch of each alone.
    """
    if len(data) < _SNAPSHOT_HEAD.size + _SNAPSHOT_COUNT.size:
        raise ValueError("a producer snapshot is cut off")
    version, crc = _SNAPSHOT_HEAD.unpack_from(data)
    if version != _SNAPSHOT_VERSION:
        raise ValueError(f"producer snapshot version {version}")
    body = data[_SNAPSHOT_HEAD.size :]
    if checksum(body) != crc:
        raise ValueError("a producer snapshot fails its CRC")
    rows, rest = _rows(body, _SNAPSHOT_ROW)
    more, rest = _rows(rest, _BATCH_ROW) if rest else (b"", b"")
    if rest:
        raise ValueError(f"a producer snapshot with {len(rest)} bytes left over")
    batches: dict[int, tuple[BatchMark, ...]] = {}
    for producer_id, sequence, offset, delta, timestamp in _BATCH_ROW.iter_unpack(more):
        batches[producer_id] = (*batches.get(producer_id, ()), _mark(sequence, offset, delta, timestamp))
    producers = {}
    for producer_id, epoch, sequence, offset, delta, timestamp, coordinator, start in _SNAPSHOT_ROW.iter_unpack(rows):
        last = (_mark(sequence, offset, delta, timestamp),) if sequence >= 0 else ()
        known = batches.get(producer_id, last)
        producers[producer_id] = Producer(epoch, known, timestamp, coordinator, None if start < 0 else start)
    return producers


def _rows(data: bytes, row: struct.Struct) -> tuple[bytes, bytes]:
    """The rows that a count at the start announces, and what follows them."""
    start = _SNAPSHOT_COUNT.size
    count = _SNAPSHOT_COUNT.unpack_from(data)[0] if len(data) >= start else -1
    end = start + count * row.size
    if count < 0 or end > len(data):
        raise ValueError(f"a producer snapshot of {count} rows in {len(data)} bytes")
    return data[start:end], data[end:]


def _mark(sequence: int, offset: int, delta: int, timestamp: int) -> BatchMark:
    return BatchMark((sequence - delta) & MAX_SEQUENCE, sequence, offset - delta, offset, timestamp)
