"""What an entry of a lane says: which batches it brings to which logs, what was trimmed, which logs went.

An entry is the index beside a commit's bytes; those hold the batches of its chunks, back to back in the same order. It
has all that a head needs to know of a batch, so that whoever takes a lane over reads no record.

Version 1, when it was made (milliseconds), then one change after the other, numbers as varints, signed ones in zigzag:
  chunk 1, log, base offset, leader epoch, begins a segment, count, then for each batch: size, last offset delta,
    largest timestamp, attributes * 2 + has a producer; if it has: its id, epoch, first sequence number, and of a
    control batch the kind of marker (0: none, 1: commit, 2: abort), the coordinator's epoch, the transaction version
  start 2, log, offset
  removed 3, log
A log is its topic's id, 16 bytes, and its partition. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from kafkapy.protocol.primitives import write_uvarint as write_number
from kafkapy.records.batch import LOG_OVERHEAD, MAGIC, BatchHeader
from kafkapy.records.control import ControlHeader, EndMarker

_VERSION: Final = 1
_CHUNK: Final = 1
_START: Final = 2
_REMOVED: Final = 3

_NO_MARKER: Final = 0
_COMMIT: Final = 1
_ABORT: Final = 2


class LogKey(NamedTuple):
    """A log, however its topic is called."""

    topic_id: bytes
    partition: int


class Chunk(NamedTuple):
    """Batches that a log was given in one entry; their headers have their offsets and the leader epoch."""

    log: LogKey
    begins_segment: bool
    headers: Sequence[BatchHeader]

    @property
    def size_bytes(self) -> int:
        return sum(header.size_bytes for header in self.headers)


class Start(NamedTuple):
    """A log begins at this offset from now on."""

    log: LogKey
    offset: int


class Removed(NamedTuple):
    """A log is no more."""

    log: LogKey


Change = Chunk | Start | Removed


@dataclass(frozen=True, slots=True)
class Entry:
    """The changes of a lane that were committed together, at `made_ms`."""

    made_ms: int
    changes: Sequence[Change]


class BadEntry(Exception):
    """These bytes are no entry, or one of a later version, or not the one that comes next."""


def encode_entry(entry: Entry) -> bytes:
    """The entry as `commits.index` holds it."""
    out = bytearray((_VERSION,))
    write_number(out, entry.made_ms)
    for change in entry.changes:
        match change:
            case Chunk(log, begins_segment, headers):
                out.append(_CHUNK)
                write_key(out, log)
                write_number(out, headers[0].base_offset)
                write_number(out, headers[0].leader_epoch)
                out.append(begins_segment)
                write_number(out, len(headers))
                for header in headers:
                    _write_batch(out, header)
            case Start(log, offset):
                out.append(_START)
                write_key(out, log)
                write_number(out, offset)
            case Removed(log):
                out.append(_REMOVED)
                write_key(out, log)
    return bytes(out)


def decode_entry(data: bytes) -> Entry:
    """The entry in these bytes. Raises BadEntry."""
    if not data or data[0] != _VERSION:
        raise BadEntry(f"entry version {data[0] if data else None}")
    try:
        made_ms, at = read_number(data, 1)
        changes: list[Change] = []
        while at < len(data):
            kind = data[at]
            log, at = read_key(data, at + 1)
            if kind == _CHUNK:
                chunk, at = _read_chunk(data, at, log)
                changes.append(chunk)
            elif kind == _START:
                offset, at = read_number(data, at)
                changes.append(Start(log, offset))
            elif kind == _REMOVED:
                changes.append(Removed(log))
            else:
                raise BadEntry(f"change of kind {kind}")
    except (IndexError, ValueError) as cut:
        raise BadEntry("an entry is cut off") from cut
    return Entry(made_ms, changes)


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """What `write_number` wrote, and where it ends. IndexError where the bytes end before."""
    if (byte := data[at]) < 0x80:
        return byte, at + 1
    value = shift = 0
    while (byte := data[at]) >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def write_key(out: bytearray, log: LogKey) -> None:
    """A log's identity, as entries and checkpoints hold it."""
    out += log.topic_id
    write_number(out, log.partition)


def read_key(data: bytes, at: int) -> tuple[LogKey, int]:
    """What `write_key` wrote, and where it ends."""
    topic_id = data[at : at + 16]
    partition, at = read_number(data, at + 16)
    return LogKey(topic_id, partition), at


def write_signed(out: bytearray, value: int) -> None:
    """A number that may be negative, small ones in few bytes."""
    write_number(out, value << 1 if value >= 0 else ~value << 1 | 1)


def read_signed(data: bytes, at: int) -> tuple[int, int]:
    """What `write_signed` wrote, and where it ends."""
    value, at = read_number(data, at)
    return (~(value >> 1) if value & 1 else value >> 1), at


def _write_batch(out: bytearray, header: BatchHeader) -> None:
    write_number(out, header.size_bytes)
    write_number(out, header.last_offset_delta)
    write_signed(out, header.max_timestamp)
    write_number(out, (header.attributes & 0xFFFF) << 1 | header.has_producer)
    if not header.has_producer:
        return
    write_number(out, header.producer_id)
    write_signed(out, header.producer_epoch)
    write_signed(out, header.base_sequence)
    if header.is_control:
        marker = header.marker if isinstance(header, ControlHeader) else None
        out.append(_NO_MARKER if marker is None else _COMMIT if marker.committed else _ABORT)
        write_signed(out, -1 if marker is None else marker.coordinator_epoch)
        write_number(out, 0 if marker is None else marker.transaction_version)


def _read_chunk(data: bytes, at: int, log: LogKey) -> tuple[Chunk, int]:
    offset, at = read_number(data, at)
    leader_epoch, at = read_number(data, at)
    begins_segment = bool(data[at])
    count, at = read_number(data, at + 1)
    headers = []
    for _ in range(count):
        header, at = _read_batch(data, at, offset, leader_epoch)
        headers.append(header)
        offset = header.next_offset
    if not headers:
        raise BadEntry("a chunk without a batch")
    return Chunk(log, begins_segment, headers), at


def _read_batch(data: bytes, at: int, offset: int, leader_epoch: int) -> tuple[BatchHeader, int]:
    size, at = read_number(data, at)
    last_offset_delta, at = read_number(data, at)
    max_timestamp, at = read_signed(data, at)
    flags, at = read_number(data, at)
    producer_id, producer_epoch, base_sequence = -1, -1, -1
    if flags & 1:
        producer_id, at = read_number(data, at)
        producer_epoch, at = read_signed(data, at)
        base_sequence, at = read_signed(data, at)
    header = BatchHeader(
        offset,
        size - LOG_OVERHEAD,
        leader_epoch,
        MAGIC,
        0,
        flags >> 1,
        last_offset_delta,
        max_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        last_offset_delta + 1,
    )
    if header.has_producer and header.is_control:
        kind = data[at]
        coordinator_epoch, at = read_signed(data, at + 1)
        transaction_version, at = read_number(data, at)
        marker = None if kind == _NO_MARKER else EndMarker(kind == _COMMIT, coordinator_epoch, transaction_version)
        return ControlHeader.of(header, marker), at
    return header, at
