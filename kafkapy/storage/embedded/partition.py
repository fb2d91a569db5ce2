"""One partition's log on disk: its segments, its head, and what it knows about epochs and aborted transactions.

Every method that changes something is synchronous: what must be atomic has no await in it. A write goes to the page
cache here; when it must be on the medium, the store syncs.

Invariants
 1. Segments follow each other without overlap; only the last one is written to.
 2. In memory stands what is on disk: a write that failed changes nothing, the segment is cut back.
 3. `high_watermark` never passes what the topic's flush settings have made durable, nor the end offset.
 4. A log whose sync failed takes no writes before it has been mended: what the kernel dropped, a second sync would not
    bring back. Nor does one that could not be cut back (`is_torn`): invariant 2 no longer holds there.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import trio

from kafkapy.errors import Error
from kafkapy.model import IsolationLevel, LogId
from kafkapy.records.batch import LOG_OVERHEAD, STAMP_SIZE, stamp
from kafkapy.storage.aborted import ROW_SIZE, AbortedRow, encode_rows, first_from, overlapping
from kafkapy.storage.base import (
    AbortedTransaction,
    Bounds,
    Buffer,
    EpochEnd,
    LogSettings,
    Reach,
    Read,
    Slice,
    Write,
)
from kafkapy.storage.compaction import Cleanable
from kafkapy.storage.embedded.checkpoints import LEADER_EPOCHS, write_epochs
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.names import offset_name
from kafkapy.storage.embedded.segment import Segment
from kafkapy.storage.producer_snapshot import encode_snapshot
from kafkapy.storage.segments import Extent, count_expired, ends_at_checkpoint, is_full
from kafkapy.storage.sequencing import Accepted, Head

T = TypeVar("T")

_READ_COMMITTED = IsolationLevel.READ_COMMITTED

_INDEX_ROWS_A_READ = 16
"""A read of fewer rows of the index does not end where a row says: it might lose much of what it may bring."""

_REGION_FROM_BYTES = 128 * 1024
"""From here on sending from the file beats reading first; and what waits to be sent costs no memory."""

_UNCOUNTED_BYTES = 64 * 1024
_ANSWER_BYTES = 1 << 20
"""What an answer may hold in memory: so much without being counted, as little as its connection's own buffers; and in
all, if the store's budget allows it. The rest is sent from the files, too, however small its pieces."""


class _Place(NamedTuple):
    """Where a batch lies."""

    segment: Segment
    position: int
    size: int


class Partition:
    """The log of one partition. Made by `recovery.load`, which fills in what the disk holds."""

    def __init__(self, disk: Disk, folder: Path, log: LogId, settings: LogSettings, start_offset: int) -> None:
        self._disk = disk
        self.folder = folder
        self.log = log
        self.settings = settings
        self.settings_version = -1  # of the catalogue that they were read from
        self.start_offset = start_offset
        self.segments: list[Segment] = []
        self.head = Head(start_offset)
        self.epochs: list[tuple[int, int]] = []
        self.aborted: list[AbortedRow] = []
        self.high_watermark = start_offset
        self.recovery_point = start_offset
        self.cleaned_to = 0
        """Compaction has seen everything before it."""
        self.unflushed_count = 0
        self.unflushed_since = 0.0
        self.sealed_unsynced: list[Segment] = []
        self.dropped: list[Segment] = []
        self.sync_is_due = False
        self.sealed_was_synced = False
        self.is_offline = False
        self.is_moving = False
        self.is_marked = False
        """It has just been moved to where it is, and its folder says so."""
        self.failed = False
        self.is_torn = False
        self._bases: list[int] = []
        self._roll_jitter_ms = 0
        self._is_ended = False  # the active segment: the next write begins another
        self._last_batch: tuple[int, Segment, int, int] | None = None  # its offset and its place
        self._limit: tuple[int, tuple[int, int]] | None = None  # of a reader: its offset, and where that lies
        self._ended: list[tuple[int, int]] = []  # transactions: the offset behind the marker, and their first one

    @property
    def active(self) -> Segment:
        return self.segments[-1]

    def add_segment(self, segment: Segment) -> None:
        self.segments.append(segment)
        self._bases.append(segment.base_offset)

    def relocate(self, folder: Path) -> None:
        """All files lie in this folder now."""
        self.folder = folder
        for segment in self.segments:
            segment.relocate(folder)
        self.dropped = []  # they were not taken along

    def bounds(self) -> Bounds:
        stable = min(self.head.last_stable_offset, self.high_watermark)
        if self._ended:
            # A marker that a power cut may take has decided nothing yet.
            self._ended = [ended for ended in self._ended if ended[0] > self.high_watermark]
            stable = min(stable, *(first for _, first in self._ended)) if self._ended else stable
        return Bounds(self.start_offset, self.high_watermark, max(stable, self.start_offset), self.head.end_offset)

    # -- writing

    def append(self, write: Write, accepted: Accepted) -> None:
        """Write the batches into the page cache; OSError leaves the log as it was."""
        offset, end_offset, aborted = accepted.base_offset, accepted.end_offset, accepted.aborted
        data, leader_epoch = memoryview(write.data), write.leader_epoch
        segments, settings = self.segments, self.settings
        segment = segments[-1] if segments else None
        segment_count, segment_size = len(segments), segment.size if segment else 0
        position, index_interval_bytes = 0, settings.index_interval_bytes
        try:
            if not self.epochs or leader_epoch > self.epochs[-1][0]:
                self._begin_epoch(leader_epoch, offset)
            # As in Kafka a write joins one segment as a whole: what is saved at its beginning is true there.
            headers = write.headers
            latest = headers[0].max_timestamp if len(headers) == 1 else max(header.max_timestamp for header in headers)
            if (
                segment is None
                or is_full(segment, len(data), end_offset - 1, latest, settings, self._roll_jitter_ms)
                or segment.has_full_index(settings.segment_index_bytes)
                or self._is_ended
            ):
                segment = self.roll(offset)
            for _, length, _, _, _, _, last_offset_delta, _, max_timestamp, _, _, _, _ in headers:
                size, last_offset = LOG_OVERHEAD + length, offset + last_offset_delta
                self._last_batch = offset, segment, segment.size, size
                batch: list[Buffer] = [
                    stamp(offset, length, leader_epoch),
                    data[position + STAMP_SIZE : position + size],
                ]
                segment.append(batch, size, last_offset, max_timestamp, index_interval_bytes)
                offset = last_offset + 1
                position += size
            if aborted:
                self._add_aborted(aborted)
        except OSError:
            self._undo(segment_count, segment_size)
            raise
        self.unflushed_count += end_offset - accepted.base_offset
        if self.head.open_transactions:
            self._note_ended(accepted)
        self.head.take(accepted)

    def _note_ended(self, accepted: Accepted) -> None:
        for producer_id, producer in accepted.producers.items():
            first = self.head.open_transactions.get(producer_id)
            if first is not None and producer.transaction_start != first:
                self._ended.append((accepted.end_offset, first))

    def _begin_epoch(self, leader_epoch: int, offset: int) -> None:
        epochs = [*self.epochs, (leader_epoch, offset)]
        write_epochs(self._disk, self.folder, epochs)
        self.epochs = epochs

    def _undo(self, segment_count: int, size: int) -> None:
        """A write failed: take back what it did, to where the last of the segments had this size."""
        self._last_batch = None
        aborted_count = len(self.aborted)
        del self.aborted[first_from(self.aborted, self.head.end_offset) :]
        undone, self.segments = self.segments[segment_count:], self.segments[:segment_count]
        del self._bases[segment_count:]
        self.sealed_unsynced = [segment for segment in self.sealed_unsynced if segment in self.segments[:-1]]
        try:
            if self.segments:
                self._cut_active(size)
                if aborted_count > len(self.aborted):
                    self._cut_aborted()
            for segment in undone:
                segment.remove()
        except OSError:
            self.failed = self.is_torn = True

    def _cut_active(self, size: int) -> None:
        active = self.active
        try:
            active.cut(size, self.settings.index_interval_bytes)
        except OSError:
            # Where nothing was written, as when the file could not be opened, there is nothing to cut.
            if active.size != size or self._disk.size(active.path) != size:
                raise

    def roll(self, offset: int) -> Segment:
        """Begin a segment at `offset`, and seal the active one, if any."""
        if self.segments:
            self.active.seal()
            self.save_snapshot(offset)
            self.sealed_unsynced.append(self.active)
            self.sync_is_due = True
        segment = Segment(self._disk, self.folder, offset)
        self.add_segment(segment)
        self._is_ended = False
        self._roll_jitter_ms = _drawn(min(self.settings.segment_jitter_ms, self.settings.segment_ms))
        if self.settings.preallocate:
            self._disk.allocate(segment.path, self.settings.segment_bytes)
        return segment

    def checkpointed(self) -> None:
        """A checkpoint holds what the log says."""
        self._is_ended = ends_at_checkpoint(self.segments)

    def save_snapshot(self, offset: int) -> None:
        """Write the producers' state as of `offset`."""
        self._disk.write_file(self.folder / f"{offset_name(offset)}.snapshot", encode_snapshot(self.head.producers))

    def _add_aborted(self, rows: list[AbortedRow]) -> None:
        """Add the rows to the transaction indexes of the segments that hold their markers, one write a segment."""
        while rows:
            index = bisect_right(self._bases, rows[0].last_offset) - 1
            count = len(rows) if index + 1 == len(self._bases) else first_from(rows, self._bases[index + 1])
            position = ROW_SIZE * (len(self.aborted) - first_from(self.aborted, self._bases[index]))
            data = encode_rows(rows[:count])
            self.aborted += rows[:count]
            self._disk.append(self._aborted_path(index), [data], len(data), position)
            rows = rows[count:]

    def _cut_aborted(self) -> None:
        """Drop what the active segment's transaction index holds beyond the rows that are known."""
        path = self._aborted_path(len(self.segments) - 1)
        size = ROW_SIZE * (len(self.aborted) - first_from(self.aborted, self.active.base_offset))
        if self._disk.size(path) > size:
            self._disk.truncate(path, size)

    def _aborted_path(self, index: int) -> str:
        return str(self.folder / f"{offset_name(self._bases[index])}.txnindex")

    def aborted_in(self, index: int) -> list[AbortedRow]:
        """The aborted transactions whose markers lie in this segment."""
        begin, *following = self._bases[index : index + 2]
        end = first_from(self.aborted, following[0]) if following else len(self.aborted)
        return self.aborted[first_from(self.aborted, begin) : end]

    def save_aborted(self, index: int) -> None:
        """Write the transaction index of this segment anew; nothing was appended to it yet."""
        self._disk.write_file(Path(self._aborted_path(index)), encode_rows(self.aborted_in(index)))

    def begin_sync(self, now: float) -> tuple[int, list[str]]:
        """The end offset now, and the files that must be synced before everything below it is on the medium.

        What is sealed from here on is the next sync's. A sync that fails is not tried again, so nothing is kept for it.
        """
        paths = [path for segment in self.sealed_unsynced for path in segment.paths()]
        if paths:
            paths.append(str(self.folder / LEADER_EPOCHS))
            self.sealed_was_synced = True
        self.sealed_unsynced = []
        self.unflushed_since = now  # for whatever comes from here on
        if self.segments and self.active.size:
            log, _, _, transactions = self.active.paths()
            paths.append(log)
            if self.aborted and self.aborted[-1].last_offset >= self.active.base_offset:
                paths.append(transactions)
        return self.head.end_offset, paths

    def synced(self, end_offset: int) -> None:
        """Everything before `end_offset` is on the medium."""
        self.recovery_point = max(self.recovery_point, end_offset)
        self.unflushed_count = self.head.end_offset - self.recovery_point

    def trim(self, offset: int) -> None:
        """Move the start of the log forward. Segments that lie before it are dropped: their files may go once the new
        start is on the medium, else a power cut that takes some of them would leave a hole in the log.
        """
        self.start_offset = max(self.start_offset, min(offset, self.high_watermark))
        count = max(bisect_right(self._bases, self.start_offset) - 1, 0)
        if count:
            self.dropped += self.segments[:count]
            del self.segments[:count], self._bases[:count]
            del self.aborted[: first_from(self.aborted, self._bases[0])]

    def expire(self, now_ms: int) -> int:
        """Drop the oldest segments that are kept no longer; how many. Raises OSError when nothing was dropped."""
        settings, segments = self.settings, self.segments
        if not segments or (settings.retention_ms < 0 and settings.retention_bytes < 0):
            return 0
        count = count_expired(self._extents(), self.size_bytes, settings, self.high_watermark, now_ms)
        if count:
            if count == len(segments):
                # Its file alone may tell the next start where the log ends.
                segment = self.roll(self.head.end_offset)
                self._disk.make_file(segment.path)
                segment.write_indexes()
            self.trim(segments[count].base_offset)
        return count

    def replace(self, old: Sequence[Segment], new: Segment, aborted: list[AbortedRow]) -> None:
        """Have one segment, with these aborted transactions, in the place of some that follow each other."""
        index = self.segments.index(old[0])
        assert self.segments[index : index + len(old)] == list(old), "what is replaced is all there"
        self.segments[index : index + len(old)] = [new]
        self._bases[index : index + len(old)] = [new.base_offset]
        begin, *following = self._bases[index : index + 2]
        end = first_from(self.aborted, following[0]) if following else len(self.aborted)
        self.aborted[first_from(self.aborted, begin) : end] = aborted
        self._last_batch = self._limit = None

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    def _extents(self) -> Iterator[Extent]:
        for segment, end in zip(self.segments, [*self._bases[1:], self.head.end_offset], strict=True):
            yield Extent(end, segment.size, self._latest_ms(segment))

    def _latest_ms(self, segment: Segment) -> int:
        if segment.max_timestamp < 0 and segment.size:
            return self._disk.modified_ms(segment.path)
        return segment.max_timestamp

    def cleanable(self) -> list[Cleanable]:
        """The segments, as the cleaner sees them. Raises OSError."""
        return [
            Cleanable(
                segment.base_offset,
                segment.size,
                segment.first_timestamp,
                self._latest_ms(segment),
                segment.offset_index.size_bytes,
                segment.time_index.size_bytes,
            )
            for segment in self.segments
        ]

    # -- reading

    def reach(self, isolation: IsolationLevel) -> Reach:
        """How far a reader gets. Raises CorruptBatch, OSError."""
        limit = self.high_watermark if isolation is not _READ_COMMITTED else self.bounds().last_stable_offset
        return Reach(self.start_offset, limit, *self.end_of(limit))

    async def read(self, read: Read, left: int, *, whole_first: bool, in_memory: int) -> Slice:
        """Bytes from the batch that holds the offset; see `Logs.read`.

        Of the bytes that the answer may yet have, `left`; of those that it has in memory so far, `in_memory`.
        """
        offset, isolation = read.offset, read.isolation
        start, high_watermark, stable, end = self.bounds()
        committed = isolation is _READ_COMMITTED
        aborted: list[AbortedTransaction] | None = [] if committed else None
        if not start <= offset <= end:
            return Slice(b"", high_watermark, stable, start, aborted, Error.OFFSET_OUT_OF_RANGE)
        limit = stable if committed else high_watermark
        place = self._find(offset) if offset < limit else None
        if place is None:
            base, position = self.end_of(limit) if offset == limit else (-1, -1)
            return Slice(b"", high_watermark, stable, start, aborted, Error.NONE, None, base, position)
        segment, position, first_size = place
        base, size = segment.base_offset, min(read.max_bytes, left)
        if size < first_size and not whole_first:
            return Slice(b"", high_watermark, stable, start, aborted, Error.NONE, None, base, position)
        end_base, end_position = self.end_of(limit)
        available = (end_position if end_base == base else segment.size) - position
        size = max(size, first_size)
        if size >= available:
            size = available
        elif size >= self.settings.index_interval_bytes * _INDEX_ROWS_A_READ:
            # Part of a batch is no use to a reader, but who cuts where a row of the index says may lose whole ones.
            size = segment.offset_index.boundary(position, position + size) - position
        if committed and self.aborted:
            rows = overlapping(self.aborted, offset, min(self._end_offset(segment, position + size), limit))
            aborted = [AbortedTransaction(row.producer_id, row.first_offset) for row in rows]
        records: Buffer | None
        if read.to_send and (in_memory := in_memory + size) > _UNCOUNTED_BYTES:
            may_stay = size < _REGION_FROM_BYTES and in_memory <= _ANSWER_BYTES
            buffer = self._disk.waiting.buffer(size) if may_stay else None
            records = self._disk.read_cached(segment.path, position, size, buffer) if buffer is not None else None
            if records is None:
                region = self._disk.region(segment.path, position, size)
                if not self._disk.is_cached(region):
                    await _in_thread(segment, partial(self._disk.load, position=position, size=size))
                return Slice(b"", high_watermark, stable, start, aborted, Error.NONE, region, base, position)
        else:
            records = self._disk.read_cached(segment.path, position, size)
            if records is None:
                records = await _in_thread(segment, partial(self._disk.read_waiting, position=position, size=size))
        return Slice(records, high_watermark, stable, start, aborted, Error.NONE, None, base, position)

    def segments_from(self, offset: int) -> list[Segment]:
        """The segments from the one on that holds the offset, if one does."""
        return self.segments[max(bisect_right(self._bases, offset) - 1, 0) :]

    def _find(self, offset: int) -> _Place | None:
        """The batch that holds `offset`, or the first one after it."""
        if self._last_batch is not None and self._last_batch[0] == offset:
            return _Place(*self._last_batch[1:])  # a reader at the tail: no search
        for segment in self.segments_from(offset):
            found = segment.find(offset)
            if found is not None:
                return _Place(segment, found[0], found[1].size_bytes)
        return None

    def end_of(self, limit: int) -> tuple[int, int]:
        """The first offset of a segment, and where in it the readable part ends. Raises CorruptBatch, OSError."""
        end_offset = self.head.end_offset
        if limit >= end_offset:
            segments = self.segments
            if not segments:
                return end_offset, 0  # where the first one will begin
            segment = segments[-1]
            return segment.base_offset, segment.size
        if self._limit is None or self._limit[0] != limit:
            place = self._find(limit)
            assert place is not None  # something lies behind it
            self._limit = limit, (place.segment.base_offset, place.position)
        return self._limit[1]

    def _end_offset(self, segment: Segment, position: int) -> int:
        """An offset that no batch before this position in the segment reaches; not the smallest, as in Kafka."""
        beyond = segment.offset_index.offset_beyond(position)
        if beyond is not None:
            return segment.base_offset + beyond
        following = bisect_right(self._bases, segment.base_offset)
        return self._bases[following] if following < len(self._bases) else self.head.end_offset

    async def read_bytes(self, segment: Segment, position: int, size: int) -> Buffer:
        """Bytes of a segment, of which those that are not in memory are waited for. Raises OSError."""
        found = self._disk.read_cached(segment.path, position, size)
        if found is not None:
            return found
        return await _in_thread(segment, partial(self._disk.read_waiting, position=position, size=size))

    def epoch_end(self, leader_epoch: int) -> EpochEnd | None:
        row = bisect_right(self.epochs, leader_epoch, key=lambda known: known[0]) - 1
        if row < 0:
            return None
        end = self.epochs[row + 1][1] if row + 1 < len(self.epochs) else self.head.end_offset
        return EpochEnd(self.epochs[row][0], end)


async def _in_thread(segment: Segment, work: Callable[[str], T]) -> T:
    """Have a worker thread do something with the segment's log, wherever that is by then. Raises OSError."""
    while True:
        path = segment.path
        try:
            result = await trio.to_thread.run_sync(work, path)
        except FileNotFoundError:
            if segment.path == path:
                raise
        else:
            if segment.path == path:
                return result  # else it may be another segment's


def _drawn(jitter_ms: int) -> int:
    """Each segment draws its own part of segment.jitter.ms, so that not all logs roll at once."""
    return random.randrange(jitter_ms) if jitter_ms else 0
