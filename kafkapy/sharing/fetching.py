"""A member's fetch from share partitions: acquires what there is, or waits until there is something (KIP-932).

It waits as an object: a watch of the logs tells that they grew, the partitions that records came free, that one was
loaded, or that another fetch has read. Then it looks again at all partitions, and reads those that have something to
give one by one, until that is as much as the member may be given about. Called by the ShareFetch handler.

Invariants
 1. One fetch at a time reads a partition's log: nobody reads what another one is about to acquire.
 2. What was acquired is in the answer, and a fetch that nobody waits for any longer acquires nothing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.model import IsolationLevel, LogId
from kafkapy.records.batch import BatchHeader, Buffer, walk
from kafkapy.sharing.acquiring import Acquired, Wish, acquire
from kafkapy.sharing.in_flight import Limits
from kafkapy.sharing.partition import SharePartition
from kafkapy.sharing.partitions import SharePartitions
from kafkapy.sharing.reading import aborted_batches, sliced
from kafkapy.sharing.state.facts import SharePartitionKey
from kafkapy.sharing.window import Window
from kafkapy.storage.base import Reach, Read, Slice, Watch

_LEAST_READ_BYTES = 64 * 1024


class FetchedRecords(NamedTuple):
    """What a fetch has of a partition: records, and which of them are the member's now; or an error."""

    records: Buffer = b""
    acquired: Sequence[Acquired] = ()
    error: Error = Error.NONE


class FetchSizes(NamedTuple):
    """How many bytes: enough not to wait for more, and in all at most."""

    min_bytes: int
    max_bytes: int


class _ToRead(NamedTuple):
    """A partition that may give something, from this offset on."""

    partition: SharePartition
    window: Window
    offset: int
    reach: Reach

    @property
    def has_something(self) -> bool:
        return self.offset < self.reach.end_offset or self.offset < self.reach.log_start_offset


class _Piece(NamedTuple):
    """What was read of a partition, and the whole batches in it."""

    found: Slice
    batches: Sequence[BatchHeader]


_UNREAD = _Piece(Slice(), ())


class ShareFetch(Delayed[dict[LogId, FetchedRecords]]):
    """One fetch. Its answer has only those partitions that could be looked at, and those with errors."""

    __slots__ = (
        "_errors",
        "_group_id",
        "_is_closed",
        "_is_stirred",
        "_isolation",
        "_known",
        "_logs",
        "_missing_bytes",
        "_partitions",
        "_seen",
        "_sizes",
        "_wake",
        "_watch",
        "_wish",
    )

    def __init__(
        self,
        partitions: SharePartitions,
        group_id: str,
        wish: Wish,
        logs: Sequence[LogId],
        isolation: IsolationLevel,
        sizes: FetchSizes,
        max_wait_ms: int,
    ) -> None:
        super().__init__(partitions.clock.monotonic() + max(max_wait_ms, 0) / 1000)
        self._partitions = partitions
        self._group_id = group_id
        self._wish = wish
        self._logs = logs
        self._isolation = isolation
        self._sizes = sizes
        self._errors: dict[LogId, FetchedRecords] = {}
        self._known: dict[LogId, SharePartition] = {}
        self._missing_bytes = 0
        self._seen: dict[LogId, Reach] = {}  # how far logs reached when there was too little
        self._wake: Callable[[], None] | None = None
        self._is_stirred = False
        self._is_closed = False
        self._watch: Watch = partitions.logs.watch(logs, self._grown)
        for key in self._keys():
            partitions.await_change(key, self._changed)

    def _keys(self) -> list[SharePartitionKey]:
        return [SharePartitionKey(self._group_id, log.topic_id, log.partition) for log in self._logs]

    def begin(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        if self._is_stirred:
            wake()

    def close(self) -> None:
        self._is_closed = True
        self._watch.close()
        for key in self._keys():
            self._partitions.await_no_more(key, self._changed)

    def _changed(self) -> None:
        self._missing_bytes = 0  # what is to be read may be quite another thing now
        self._stir()

    def _grown(self, log: LogId) -> None:
        if self._missing_bytes > 0:
            reach = self._partitions.logs.reach(log, self._isolation)
            before = self._seen.get(log)
            if isinstance(reach, Error) or before is None or reach.segment != before.segment:
                self._missing_bytes = 0
            else:
                self._seen[log] = reach
                self._missing_bytes -= reach.position - before.position
            if self._missing_bytes > 0:
                return
        self._stir()

    def _stir(self) -> None:
        self._is_stirred = True
        if self._wake is not None:
            self._wake()

    async def attempt(self) -> dict[LogId, FetchedRecords] | None:
        self._is_stirred = False
        is_due = self._partitions.clock.monotonic() >= self.deadline
        if self._missing_bytes > 0 and not is_due:
            return None
        limits = self._partitions.limits_of(self._group_id)
        to_read = self._to_read(limits)
        if len(self._errors) == len(self._logs):
            return self._errors
        if not is_due and not any(one.has_something for one in to_read):
            return None
        for one in to_read:
            one.partition.is_read = True
        try:
            pieces = await self._read(to_read, limits)
            if not is_due and self._is_too_little(to_read, pieces):
                return None
            return self._errors | self._acquire(to_read, pieces, limits)
        finally:
            for one in to_read:
                self._partitions.end_read(one.partition)

    def _to_read(self, limits: Limits) -> list[_ToRead]:
        """The partitions from which something may be acquired now; of those with errors takes note."""
        found = []
        for log in self._logs:
            if log in self._errors:
                continue
            partition = self._known.get(log)
            try:
                if partition is not None and partition.failure is not None:
                    raise partition.failure  # who asks again has it loaded again
                partition = self._known[log] = self._partitions.get(self._group_id, log)
            except KafkaError as refusal:
                self._errors[log] = FetchedRecords(error=refusal.error)
                continue
            window = partition.window
            if partition.is_read:
                partition.is_wanted = True
                continue
            if window is None or not window.may_acquire(limits):
                continue
            reach = self._partitions.logs.reach(log, self._isolation)
            if isinstance(reach, Error):
                self._errors[log] = FetchedRecords(error=reach)
                self._partitions.drop(partition)
                continue
            found.append(_ToRead(partition, window, window.next_fetch_offset, reach))
        return found

    async def _read(self, to_read: Sequence[_ToRead], limits: Limits) -> list[_Piece]:
        """Read each, until there is enough: what is read and not given is read again, by this member or another."""
        wish, (min_bytes, max_bytes) = self._wish, self._sizes
        each = max(max_bytes // len(to_read), 1) if to_read else 0
        pieces: list[_Piece] = []
        count, size = 0, 0  # what may be given of them, of records that nobody was given yet; and all bytes
        for partition, window, offset, _ in to_read:
            if size >= max_bytes or (count >= wish.max_records and size >= min_bytes):
                pieces.append(_UNREAD)
                continue
            enough = max((wish.max_records - count) * partition.record_bytes, min_bytes - size, _LEAST_READ_BYTES)
            read = Read(partition.log, offset, min(each, enough), self._isolation)
            (found,) = await self._partitions.logs.read([read], max_bytes - size)
            if size and found.size_bytes > max_bytes - size:
                found = found._replace(records=b"")  # of the first one alone a batch is given whatever its size
            batches = [header for _, header in walk(found.records)]
            if batches:
                first, end = batches[0].base_offset, batches[-1].next_offset
                partition.record_bytes = max(found.size_bytes // (end - first), 1)
                room = limits.record_locks - window.record_count
                count += min(max(end - max(first, offset, window.end_offset), 0), max(room, 0))
            size += found.size_bytes
            pieces.append(_Piece(found, batches))
        return pieces

    def _is_too_little(self, to_read: Sequence[_ToRead], pieces: Sequence[_Piece]) -> bool:
        """Whether to wait for more bytes; takes note of how many."""
        if any(found.error for found, _ in pieces):
            return False
        missing_bytes = self._sizes.min_bytes - sum(found.size_bytes for found, _ in pieces)
        if missing_bytes <= 0:
            return False
        self._missing_bytes = missing_bytes
        self._seen = {one.partition.log: one.reach for one in to_read}
        return True

    def _acquire(
        self, to_read: Sequence[_ToRead], pieces: Sequence[_Piece], limits: Limits
    ) -> dict[LogId, FetchedRecords]:
        found: dict[LogId, FetchedRecords] = {}
        now, left = self._partitions.clock.monotonic(), self._wish.max_records
        for (partition, window, offset, _), (piece, batches) in zip(to_read, pieces, strict=True):
            if self._is_closed or partition.is_over:
                continue
            if piece.error is Error.OFFSET_OUT_OF_RANGE:
                window.trim(piece.log_start_offset)
                found[partition.log] = FetchedRecords()
                continue
            if piece.error or not batches:
                found[partition.log] = FetchedRecords(error=piece.error)
                continue
            aborted = aborted_batches(piece.records, piece.aborted) if piece.aborted else []
            acquired = acquire(window, self._wish._replace(max_records=left), offset, batches, aborted, limits, now)
            records: Buffer = b""
            if acquired:
                left -= sum(last - first + 1 for first, last, _ in acquired)
                records = sliced(piece.records, batches, acquired[0].first, acquired[-1].last)
                self._partitions.set_alarm(partition)
            found[partition.log] = FetchedRecords(records, acquired)
        return found
