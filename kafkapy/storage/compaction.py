"""What compaction does to a log: what may be cleaned, how urgent it is, and what stays of each batch. For every store.

A round has two passes. `Learner` goes over what is dirty and notes the last offset of each key, up to the memory that
it is given; `Sieve` goes over all that is cleaned and tells what stays of each batch. Stores bring the batches, in
order, and put what stays in the place of what was there.

Invariants
 1. Of a key the last record stays that the round has seen, and whatever came after what the round has seen.
 2. A tombstone, or the marker of a transaction of which nothing else is left, stays `delete.retention.ms` after the
    first round that met it so; the batch says in its header until when (KIP-534).
 3. A marker stays as long as any batch of its transaction does; so does the row of an aborted transaction.
 4. The last batch of a producer that is remembered stays, empty if need be: its sequence numbers, and its epoch, are
    known from it. So does the last batch of what one new segment replaces: it tells where that ended.

Pure. Source: the rules of Kafka's log cleaner, but for the second half of invariant 4: Kafka keeps the last batch of a
round only.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop
from typing import Final, NamedTuple

from kafkapy.records.batch import BatchHeader, Buffer, CorruptBatch, crc_matches
from kafkapy.records.control import read_end_marker
from kafkapy.records.filtering import RECORDS_A_STEP, Remade, emptied, inflated, keyed_records, remake
from kafkapy.storage.aborted import AbortedRow
from kafkapy.storage.base import Bounds, LogSettings
from kafkapy.storage.offset_map import OffsetMap
from kafkapy.storage.segments import MAX_RELATIVE_OFFSET
from kafkapy.storage.sequencing import Producer
from kafkapy.turns import Steps

_BATCH_AS_RECORDS: Final = 2
"""A batch takes as long as so many records, beside those that it has, …"""

_BYTES_AS_A_RECORD: Final = 16 << 10
"""… and each so many bytes, which are checked and copied, as long as one more."""


class Cleanable(NamedTuple):
    """A segment as the cleaner sees it: the timestamps of its first batch, if any, and the largest; sizes in bytes.

    Where no record has a time `latest_ms` is that of the last write.
    """

    base_offset: int
    size: int
    first_ms: int | None
    latest_ms: int
    offset_index_size: int = 0
    time_index_size: int = 0


class Section(NamedTuple):
    """What a round may clean: everything before `end_offset`, of which `first_dirty` and what follows is new to it.

    Sizes are of whole segments, in bytes. `is_overdue`: something has been dirty for longer than max.compaction.lag.ms.
    """

    first_dirty: int
    end_offset: int
    clean_size: int
    dirty_size: int
    is_overdue: bool

    @property
    def dirty_ratio(self) -> float:
        total = self.clean_size + self.dirty_size
        return self.dirty_size / total if total else 0.0

    def is_due(self, settings: LogSettings) -> bool:
        """Whether there is enough to do."""
        if not self.dirty_size:
            return False
        return self.is_overdue or self.dirty_ratio > settings.min_cleanable_dirty_ratio


def cleanable_section(
    segments: Sequence[Cleanable], cleaned_to: int, bounds: Bounds, settings: LogSettings, now_ms: int
) -> Section:
    """What may be cleaned of a log with these segments, the last of which is written to, whose records before
    `cleaned_to` have been cleaned; never anything from the last stable offset on.
    """
    start_offset, _, limit, log_end = bounds
    first_dirty = cleaned_to if start_offset <= cleaned_to <= log_end else start_offset
    sealed = segments[:-1]
    ends = [segment.base_offset for segment in segments[1:]]
    dirty = [segment for segment, end in zip(sealed, ends, strict=True) if end > first_dirty]
    end_offset = min(limit, segments[-1].base_offset) if segments else 0
    if settings.min_compaction_lag_ms > 0:
        for segment in dirty:
            if segment.latest_ms > now_ms - settings.min_compaction_lag_ms:
                end_offset = min(end_offset, segment.base_offset)
                break
    # Only whole segments: the one that holds the limit is not cleaned.
    end_offset = max([end for end in ends if end <= end_offset], default=segments[0].base_offset if segments else 0)
    oldest_ms = min((segment.first_ms for segment in dirty if segment.first_ms and segment.first_ms > 0), default=None)
    return Section(
        first_dirty,
        max(end_offset, first_dirty),
        sum(segment.size for segment in segments if segment.base_offset < first_dirty),
        sum(segment.size for segment in dirty if segment.base_offset < end_offset),
        oldest_ms is not None and oldest_ms < now_ms - settings.max_compaction_lag_ms,
    )


def group_segments(segments: Sequence[Cleanable], end_offset: int, settings: LogSettings) -> list[int]:
    """How many of these segments each new one replaces, in order; the last of them ends at `end_offset`."""
    counts: list[int] = []
    base = size = offset_index_size = time_index_size = 0
    ends = [*(segment.base_offset for segment in segments[1:]), end_offset]
    for segment, end in zip(segments, ends, strict=True):
        size += segment.size
        offset_index_size += segment.offset_index_size
        time_index_size += segment.time_index_size
        if (
            counts
            and size <= settings.segment_bytes
            and max(offset_index_size, time_index_size) <= settings.segment_index_bytes
            and end - 1 - base <= MAX_RELATIVE_OFFSET
        ):
            counts[-1] += 1
        else:
            counts.append(1)
            base, size = segment.base_offset, segment.size
            offset_index_size, time_index_size = segment.offset_index_size, segment.time_index_size
    return counts


class _Pace:
    """When others may go on: many small batches make a step, and a large one makes many."""

    def __init__(self) -> None:
        self._work = 0

    def is_long(self, records: int) -> bool:
        """Whether the step is long enough with so much more."""
        self._work += records
        if self._work < RECORDS_A_STEP:
            return False
        self._work = 0
        return True


def _as_records(header: BatchHeader) -> int:
    return _BATCH_AS_RECORDS + header.size_bytes // _BYTES_AS_A_RECORD


class NoRoom(Exception):
    """A single batch has more keys than the cleaner may remember."""


class Learner:
    """Notes the last offset of each key in what is dirty."""

    def __init__(self, offsets: OffsetMap, first_dirty: int, aborted: Iterable[AbortedRow]) -> None:
        self._offsets = offsets
        self._first_dirty = first_dirty
        self._transactions = _Transactions(aborted)
        self._pace = _Pace()
        self.end_offset = first_dirty
        """Everything before it has been noted."""

    def note(self, header: BatchHeader, batch: Buffer) -> Steps[bool]:
        """Take the next batch; false when there is no room for it, and the pass ends here. Raises CorruptBatch."""
        self.passed(header.base_offset)
        if self._pace.is_long(_as_records(header)):
            yield
        if header.is_control:
            self._transactions.meet_marker(header, batch)
        elif not self._transactions.meet(header) and header.record_count:
            offsets, base_offset, first_dirty = self._offsets, header.base_offset, self._first_dirty
            plain = yield from inflated(batch, header)
            for records in keyed_records(plain, header):
                for _, _, _, _, offset_delta, key, _ in records:
                    if key is not None and base_offset + offset_delta >= first_dirty:
                        if offsets.is_full:
                            return False
                        offsets.put(key, base_offset + offset_delta)
                if self._pace.is_long(len(records)):
                    yield
        self.passed(header.next_offset)
        return True

    def passed(self, offset: int) -> None:
        """There is nothing more before this offset."""
        self.end_offset = max(self.end_offset, offset)

    def finish(self) -> int:
        """The offset before which everything has been noted. Raises NoRoom when that is nothing."""
        if self.end_offset == self._first_dirty:
            raise NoRoom(f"log.cleaner.dedupe.buffer.size is too small for the batch at offset {self.end_offset}")
        return self.end_offset


class Sieve:
    """Tells what stays of each batch. `producers` are those that are remembered at the log's end, as they are now."""

    def __init__(
        self,
        offsets: OffsetMap,
        end_offset: int,
        aborted: Iterable[AbortedRow],
        producers: Mapping[int, Producer],
        delete_retention_ms: int,
        now_ms: int,
    ) -> None:
        self._offsets = offsets
        self._end_offset = end_offset
        self._transactions = _Transactions(aborted)
        self._producers = producers
        self._pace = _Pace()
        self._delete_horizon_ms = now_ms + delete_retention_ms
        self._now_ms = now_ms

    def take_aborted(self) -> list[AbortedRow]:
        """The aborted transactions whose markers stay, of the batches since the last call."""
        rows, self._transactions.kept = self._transactions.kept, []
        return rows

    def sift(self, header: BatchHeader, batch: Buffer, *, is_last: bool) -> Steps[Buffer | Remade | None]:
        """What stays of the next batch: itself, another one in its place, or nothing. Raises CorruptBatch.

        `is_last`: of the batches that one new segment replaces.
        """
        if self._pace.is_long(_as_records(header)):
            yield
        horizon = header.base_timestamp if header.has_delete_horizon else None
        is_over = horizon is not None and horizon <= self._now_ms
        if header.is_control:
            of_nothing = self._transactions.meet_marker(header, batch)
            if not (of_nothing and is_over) and header.record_count:
                if not of_nothing or horizon is not None:
                    return batch
                plain = yield from inflated(batch, header)
                records = [record for step in keyed_records(plain, header) for record in step]
                return (yield from remake(header, plain, records, self._delete_horizon_ms))
        elif not self._transactions.meet(header) and header.record_count:
            plain = yield from inflated(batch, header)
            kept, has_tombstone = [], False
            for records in keyed_records(plain, header):
                for record in records:
                    if self._stays(header.base_offset + record.offset_delta, record.key, record.is_tombstone, is_over):
                        kept.append(record)
                        has_tombstone = has_tombstone or record.is_tombstone
                if self._pace.is_long(len(records)):
                    yield
            if kept:
                if len(kept) == header.record_count and (horizon is not None or not has_tombstone):
                    return batch
                if has_tombstone and horizon is None:
                    horizon = self._delete_horizon_ms
                return (yield from remake(header, plain, kept, horizon))
        return emptied(header) if is_last or self._is_last_of_producer(header) else None

    def _stays(self, offset: int, key: bytes | None, is_tombstone: bool, is_over: bool) -> bool:
        if offset >= self._end_offset:
            return True
        if key is None:
            return False
        return not (is_tombstone and is_over) and offset >= self._offsets.get(key)

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        producer = self._producers.get(header.producer_id) if header.has_producer else None
        if producer is None:
            return False
        if producer.batches:
            return header.last_offset == producer.batches[-1].last_offset
        return header.is_control and header.producer_epoch == producer.epoch


class _Transactions:
    """Which transactions are under way where a pass is."""

    def __init__(self, aborted: Iterable[AbortedRow]) -> None:
        self._to_come = [(row.first_offset, row) for row in aborted]
        heapify(self._to_come)
        self._aborted: dict[int, tuple[AbortedRow, bool]] = {}  # by producer; whether a batch of it was met
        self._committed: set[int] = set()  # or yet to end: of which batches were met
        self.kept: list[AbortedRow] = []

    def meet(self, header: BatchHeader) -> bool:
        """The next batch of records; whether it was aborted."""
        if not header.is_transactional:
            return False
        self._begin(header.last_offset)
        found = self._aborted.get(header.producer_id)
        if found is None:
            self._committed.add(header.producer_id)
            return False
        self._aborted[header.producer_id] = found[0], True
        return True

    def meet_marker(self, header: BatchHeader, batch: Buffer) -> bool:
        """The next control batch; whether nothing else is left of its transaction."""
        if not header.record_count:
            return True
        self._begin(header.last_offset)
        marker = read_end_marker(batch)
        if marker is None:
            return False
        if marker.committed:
            met = header.producer_id in self._committed
            self._committed.discard(header.producer_id)
            return not met
        row, met = self._aborted.pop(header.producer_id, (None, False))
        if row is not None and met:
            self.kept.append(row)
        return not met

    def _begin(self, offset: int) -> None:
        while self._to_come and self._to_come[0][0] <= offset:
            row = heappop(self._to_come)[1]
            self._aborted.setdefault(row.producer_id, (row, False))


def checked(header: BatchHeader, buf: Buffer, position: int) -> memoryview:
    """The batch at this position, which a round may believe. Raises CorruptBatch."""
    if not crc_matches(buf, position, header):
        raise CorruptBatch(f"the batch at offset {header.base_offset} fails its CRC")
    return memoryview(buf)[position : position + header.size_bytes]
