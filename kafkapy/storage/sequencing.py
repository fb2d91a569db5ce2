"""May these batches be appended, and at which offset?

One `Head` per log holds what the answer depends on: the end offset, and for each producer id its epoch, its last
batches and its open transaction. `judge` decides without changing anything; once the bytes are written, `take` makes
the verdict true. A log is loaded by `replay`, which trusts what was written. Every store uses this, none repeats it.

Invariants
 1. Offsets are dense: an accepted write begins at the end offset.
 2. A producer's epoch never goes back.
 3. Within an epoch sequence numbers follow each other, wrapping from 2147483647 to 0. A producer that is unknown here,
    or whose state has expired, may begin anywhere; a new epoch of a known producer begins at 0.
 4. A batch that repeats one of the producer's last five is answered with the offsets it got then, and not appended.
 5. The last stable offset is the first offset of the oldest open transaction, or the end offset.

Source: KIP-98, KIP-360, and Kafka's design chapter on idempotent producers.
"""

import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kafkapy.errors import Error
from kafkapy.model import NO_PRODUCER_EPOCH, NO_SEQUENCE, NO_TIMESTAMP
from kafkapy.records.batch import CONTROL, MAX_SEQUENCE, TRANSACTIONAL, BatchHeader, checksum
from kafkapy.records.control import ControlHeader, EndMarker
from kafkapy.storage.aborted import AbortedRow
from kafkapy.storage.base import Origin

REMEMBERED_BATCHES = 5
"""How many batches per producer can be recognised as repeats; clients keep at most as many in flight."""


class BatchMark(NamedTuple):
    """One batch of a producer, as remembered."""

    first_sequence: int
    last_sequence: int
    first_offset: int
    last_offset: int
    timestamp: int


class Producer(NamedTuple):
    """What a log knows of one producer id."""

    epoch: int = NO_PRODUCER_EPOCH
    batches: tuple[BatchMark, ...] = ()
    last_timestamp: int = NO_TIMESTAMP
    coordinator_epoch: int = -1
    transaction_start: int | None = None

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE


UNKNOWN = Producer()


class Accepted(NamedTuple):
    """Append the batches: they take the offsets [base_offset, end_offset)."""

    base_offset: int
    end_offset: int
    producers: dict[int, Producer]
    aborted: list[AbortedRow]


class Repeated(NamedTuple):
    """Do not append: the batch was appended before, at these offsets."""

    first_offset: int
    last_offset: int
    timestamp: int


class Refused(NamedTuple):
    """Do not append, and say why."""

    error: Error
    message: str


@dataclass(slots=True)
class Head:
    """The moving end of a log.

    It is told of batches by their headers alone; those of control batches must be `ControlHeader`s.
    """

    end_offset: int = 0
    producers: dict[int, Producer] = field(default_factory=dict)
    open_transactions: OrderedDict[int, int] = field(default_factory=OrderedDict)
    """First offset by producer id, the oldest first."""

    @property
    def last_stable_offset(self) -> int:
        return next(iter(self.open_transactions.values())) if self.open_transactions else self.end_offset

    def judge(self, headers: Sequence[BatchHeader], origin: Origin) -> Accepted | Repeated | Refused:
        """Decide about one write, which has these batches."""
        if len(headers) == 1 and (verdict := self._judge_usual(headers[0])):
            return verdict
        return self._judge_each(headers, origin)

    def _judge_usual(self, header: BatchHeader) -> Accepted | None:
        """The verdict about nearly every write: nothing is to be remembered, or the producer's next batch has come.

        None leaves it to `_judge_each`, which would say the same at three times the cost.
        """
        offset = self.end_offset
        _, _, _, _, _, attributes, last_offset_delta, _, timestamp, producer_id, epoch, first_sequence, _ = header
        if producer_id < 0:
            return Accepted(offset, offset + last_offset_delta + 1, {}, [])
        known = self.producers.get(producer_id)
        if known is None:
            return None
        known_epoch, batches, _, coordinator_epoch, transaction_start = known
        last_sequence = first_sequence + last_offset_delta
        if (
            epoch != known_epoch
            or not batches
            or first_sequence != batches[-1].last_sequence + 1
            or last_sequence > MAX_SEQUENCE
            or attributes & (CONTROL | TRANSACTIONAL) != (0 if transaction_start is None else TRANSACTIONAL)
        ):
            return None
        last_offset = offset + last_offset_delta
        mark = BatchMark(first_sequence, last_sequence, offset, last_offset, timestamp)
        batches = (*batches[1 - REMEMBERED_BATCHES :], mark)
        producer = Producer(epoch, batches, timestamp, coordinator_epoch, transaction_start)
        return Accepted(offset, last_offset + 1, {producer_id: producer}, [])

    def _judge_each(self, headers: Sequence[BatchHeader], origin: Origin) -> Accepted | Repeated | Refused:
        offset = self.end_offset
        changed: dict[int, Producer] = {}
        aborted: list[AbortedRow] = []
        for header in headers:
            if header.has_producer:
                producer = changed.get(header.producer_id) or self.producers.get(header.producer_id, UNKNOWN)
                if origin is Origin.CLIENT and (repeated := _find_repeat(producer, header)):
                    return repeated
                if refused := _check(producer, header, origin):
                    return refused
                marker = _marker(header)
                if marker and marker.coordinator_epoch < producer.coordinator_epoch:
                    return Refused(
                        Error.TRANSACTION_COORDINATOR_FENCED,
                        f"coordinator epoch {marker.coordinator_epoch} is older than {producer.coordinator_epoch}",
                    )
                if marker and not marker.committed and producer.transaction_start is not None:
                    aborted.append(self._aborted(header.producer_id, producer.transaction_start, offset, changed))
                changed[header.producer_id] = _advance(producer, header, marker, offset)
            offset += header.last_offset_delta + 1
        return Accepted(self.end_offset, offset, changed, aborted)

    def take(self, accepted: Accepted) -> None:
        """The batches are written: the verdict becomes the state."""
        self.end_offset = accepted.end_offset
        self._set_all(accepted.producers)

    def replay(self, header: BatchHeader) -> AbortedRow | None:
        """Take a batch that is in the log already; the row it adds to the aborted transactions, if any."""
        row = None
        if header.has_producer:
            producer = self.producers.get(header.producer_id, UNKNOWN)
            marker = _marker(header)
            if marker and not marker.committed and producer.transaction_start is not None:
                row = self._aborted(header.producer_id, producer.transaction_start, header.base_offset, {})
            self._set(header.producer_id, _advance(producer, header, marker, header.base_offset))
        self.end_offset = header.next_offset
        return row

    def restore(self, producers: dict[int, Producer], end_offset: int) -> None:
        """Begin from a snapshot of the producers, taken when the log ended at `end_offset`."""
        self.end_offset = end_offset
        self.producers.clear()
        self.open_transactions.clear()
        self._set_all(producers)

    def expire(self, now_ms: int, expiration_ms: int) -> None:
        """Forget producers that wrote nothing for `expiration_ms` and have no open transaction."""
        stale = [
            producer_id
            for producer_id, producer in self.producers.items()
            if producer.transaction_start is None and now_ms - producer.last_timestamp >= expiration_ms
        ]
        for producer_id in stale:
            del self.producers[producer_id]

    def _set_all(self, producers: Mapping[int, Producer]) -> None:
        changes = list(producers.items())
        if len(changes) > 1:  # transactions come in the order in which they began
            changes.sort(key=lambda change: change[1].transaction_start or 0)
        for producer_id, producer in changes:
            self._set(producer_id, producer)

    def _set(self, producer_id: int, producer: Producer) -> None:
        self.producers[producer_id] = producer
        start = producer.transaction_start
        if start is None:
            if self.open_transactions:
                self.open_transactions.pop(producer_id, None)
        elif self.open_transactions.get(producer_id) != start:
            self.open_transactions.pop(producer_id, None)  # another takes its place at the end of the order
            self.open_transactions[producer_id] = start

    def _aborted(self, producer_id: int, start: int, marker_offset: int, changed: Mapping[int, Producer]) -> AbortedRow:
        """The row of the transaction that an abort marker at this offset ends.

        `changed` are the producers after the earlier batches of the same write.
        """
        stable = marker_offset + 1
        for other, first in self.open_transactions.items():
            if other != producer_id and (other not in changed or changed[other].transaction_start == first):
                stable = first
                break
        else:
            for other, producer in changed.items():
                if other != producer_id and producer.transaction_start is not None:
                    stable = min(stable, producer.transaction_start)
        return AbortedRow(producer_id, start, marker_offset, stable)


def _marker(header: BatchHeader) -> EndMarker | None:
    if not header.is_control:
        return None
    assert isinstance(header, ControlHeader), "a control batch is judged by what its marker says"
    return header.marker


def _find_repeat(producer: Producer, header: BatchHeader) -> Repeated | None:
    if header.producer_epoch != producer.epoch:
        return None
    wanted = (header.base_sequence, header.last_sequence)
    for mark in producer.batches:
        if (mark.first_sequence, mark.last_sequence) == wanted:
            return Repeated(mark.first_offset, mark.last_offset, mark.timestamp)
    return None


def _check(producer: Producer, header: BatchHeader, origin: Origin) -> Refused | None:
    who = f"producer {header.producer_id}"
    if header.producer_epoch < producer.epoch:
        return Refused(
            Error.INVALID_PRODUCER_EPOCH,
            f"{who} writes with epoch {header.producer_epoch}, its last one here is {producer.epoch}",
        )
    if header.is_control or origin is not Origin.CLIENT:
        return None
    if header.producer_epoch != producer.epoch:
        if header.base_sequence != 0 and producer.epoch != NO_PRODUCER_EPOCH:
            return Refused(
                Error.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"{who} begins epoch {header.producer_epoch} with sequence number {header.base_sequence}",
            )
    elif not _follows(producer.last_sequence, header.base_sequence):
        return Refused(
            Error.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"{who} sends sequence number {header.base_sequence} after {producer.last_sequence}",
        )
    if producer.transaction_start is not None and not header.is_transactional:
        return Refused(Error.INVALID_TXN_STATE, f"{who} writes outside of its open transaction")
    return None


def _follows(last: int, following: int) -> bool:
    return following == last + 1 or (following == 0 and last == MAX_SEQUENCE)


def _advance(producer: Producer, header: BatchHeader, marker: EndMarker | None, offset: int) -> Producer:
    """The producer after this batch, which begins at `offset`."""
    batches = producer.batches if header.producer_epoch == producer.epoch else ()
    if header.is_control:
        coordinator_epoch = marker.coordinator_epoch if marker else producer.coordinator_epoch
        return Producer(header.producer_epoch, batches, header.max_timestamp, coordinator_epoch, None)
    last_offset = offset + header.last_offset_delta
    mark = BatchMark(header.base_sequence, header.last_sequence, offset, last_offset, header.max_timestamp)
    start = producer.transaction_start
    if start is None and header.is_transactional:
        start = offset
    return Producer(
        header.producer_epoch,
        (*batches[-(REMEMBERED_BATCHES - 1) :], mark),
        header.max_timestamp,
        producer.coordinator_epoch,
        start,
    )


# A producer snapshot file: version 2, CRC-32C 4 (of what follows), count 4, then a row a producer, which holds its last
# batch. Then, where Apache Kafka does not look any more: count 4, and a row for each batch, the oldest first, of the
# producers of whom the first row does not say all.

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
