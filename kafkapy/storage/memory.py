"""The memory store: the smallest honest implementation of the seam. What it keeps dies with the process.

The reference for the other stores, and what `kafkapy start --memory` and most tests run on.
"""

import logging
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from operator import itemgetter
from typing import Final, NamedTuple

from kafkapy.clock import Clock
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_LEADER_EPOCH, IsolationLevel, LogId
from kafkapy.records.batch import STAMP_SIZE, BatchHeader, CorruptBatch, read_header, stamp
from kafkapy.records.filtering import Remade
from kafkapy.storage.aborted import AbortedRow, first_from, overlapping
from kafkapy.storage.base import (
    AbortedTransaction,
    ActiveProducer,
    Bounds,
    Catalogue,
    Checkpoint,
    CleanerSettings,
    EpochEnd,
    FoundTime,
    LogDir,
    LogSettings,
    Outcome,
    Pending,
    Reach,
    Read,
    Replica,
    Slice,
    Watch,
    Write,
)
from kafkapy.storage.compaction import Cleanable, Learner, NoRoom, Section, Sieve, cleanable_section, group_segments
from kafkapy.storage.judging import judged
from kafkapy.storage.offset_map import OffsetMap
from kafkapy.storage.segments import Extent, Segment, count_expired, ends_at_checkpoint, is_full
from kafkapy.storage.sequencing import Accepted, Head
from kafkapy.storage.sole import SoleLeases
from kafkapy.storage.time_lookup import first_at_or_after, first_with_max_timestamp
from kafkapy.storage.verification import Claim, Verification
from kafkapy.storage.watching import Watchers
from kafkapy.turns import Steps, Turns

_log = logging.getLogger(__name__)

_ONLY_SEGMENT: Final = 0
"""For readers: what is in memory has no files."""

_NO_JITTER: Final = 0


class _Stored(NamedTuple):
    header: BatchHeader
    data: bytes


class _Log:
    """One log: its batches in order, and their base offsets for the look-up."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.head = Head()
        self.start = 0
        self.batches: list[_Stored] = []
        self.bases: list[int] = []
        self.positions: list[int] = []
        self.end_position = 0
        self.cleaned_to = 0
        self.is_ended = False  # the last segment: the next write begins another
        self.aborted: list[AbortedRow] = []

    def append(self, write: Write, accepted: Accepted, settings: LogSettings, now_ms: int) -> None:
        offset, position = accepted.base_offset, 0
        headers, segments = write.headers, self.segments
        latest = headers[0].max_timestamp if len(headers) == 1 else max(header.max_timestamp for header in headers)
        if (
            not segments
            or self.is_ended
            or is_full(segments[-1], len(write.data), accepted.end_offset - 1, latest, settings, _NO_JITTER)
        ):
            segments.append(Segment(offset))
            self.is_ended = False
        for header in headers:
            segments[-1].note(header, now_ms)
            size = header.size_bytes
            body = write.data[position + STAMP_SIZE : position + size]
            beginning = offset, header.batch_length, write.leader_epoch
            self.batches.append(_Stored(BatchHeader(*beginning, *header[3:]), stamp(*beginning) + bytes(body)))
            self.bases.append(offset)
            self.positions.append(self.end_position)
            self.end_position += size
            offset += header.last_offset_delta + 1
            position += size
        self.head.take(accepted)
        self.aborted += accepted.aborted

    def index_of(self, offset: int) -> int:
        """The index of the batch that holds `offset`, or of the first one after it."""
        index = max(bisect_right(self.bases, offset) - 1, 0)
        if index < len(self.batches) and self.batches[index].header.last_offset < offset:
            index += 1
        return index

    def position_of(self, offset: int) -> int:
        """Where the batch begins that holds `offset`, among all bytes that the log ever had."""
        index = self.index_of(offset)
        return self.positions[index] if index < len(self.positions) else self.end_position

    def trim(self, offset: int) -> None:
        self.start = max(self.start, min(offset, self.head.end_offset))
        while len(self.segments) > 1 and self.segments[1].base_offset <= self.start:
            del self.segments[0]
        keep = self.index_of(self.start)
        del self.batches[:keep], self.bases[:keep], self.positions[:keep]
        del self.aborted[: first_from(self.aborted, self.start)]

    def expire(self, settings: LogSettings, now_ms: int) -> int:
        """Drop the oldest segments that are kept no longer; how many."""
        segments, end = self.segments, self.head.end_offset
        if not segments:
            return 0
        ends = [*(segment.base_offset for segment in segments[1:]), end]
        extents = [Extent(end, segment.size, segment.latest_ms) for segment, end in zip(segments, ends, strict=True)]
        size = sum(segment.size for segment in segments)
        count = count_expired(extents, size, settings, end, now_ms)
        if count == len(segments):
            segments.append(Segment(end))
        if count:
            self.trim(segments[count].base_offset)
        return count

    def section(self, settings: LogSettings, now_ms: int) -> Section:
        """What may be cleaned."""
        return cleanable_section(self.cleanable(), self.cleaned_to, self.bounds(), settings, now_ms)

    def cleanable(self) -> list[Cleanable]:
        return [Cleanable(one.base_offset, one.size, one.first_timestamp, one.latest_ms) for one in self.segments]

    def clean(self, section: Section, settings: LogSettings, cleaner: CleanerSettings, now_ms: int) -> Steps[bool]:
        """Clean it; false when the log's start has moved meanwhile. Raises CorruptBatch, NoRoom."""
        first_dirty, end_offset = section.first_dirty, section.end_offset
        rows = overlapping(self.aborted, self.start, end_offset)
        with closing(
            OffsetMap(end_offset - first_dirty, cleaner.dedupe_buffer_size, cleaner.io_buffer_load_factor)
        ) as offsets:
            learner = Learner(offsets, first_dirty, overlapping(self.aborted, first_dirty, end_offset))
            for header, data in self.batches[self.index_of(first_dirty) : bisect_left(self.bases, end_offset)]:
                if not (yield from learner.note(header, data)):
                    break
            else:
                learner.passed(end_offset)
            clean_to = learner.finish()
            sieve = Sieve(offsets, clean_to, rows, self.head.producers, settings.delete_retention_ms, now_ms)
            sealed = [one for one in self.cleanable() if one.base_offset < clean_to]
            index = 0
            for count in group_segments(sealed, end_offset, settings):
                if not (yield from self._clean_group(sealed[index : index + count], sieve)):
                    return False
                index += count
        self.cleaned_to = clean_to
        return True

    def _clean_group(self, group: Sequence[Cleanable], sieve: Sieve) -> Steps[bool]:
        bases = [one.base_offset for one in group]
        segments = [segment for segment in self.segments if segment.base_offset in bases]
        following = [segment.base_offset for segment in self.segments if segment.base_offset > bases[-1]]
        start, begin, end = self.start, bisect_left(self.bases, bases[0]), bisect_left(self.bases, following[0])
        merged = Segment(bases[0])
        kept: list[tuple[int, _Stored]] = []
        for index in range(begin, end):
            header, data = self.batches[index]
            rest = yield from sieve.sift(header, data, is_last=index == end - 1)
            if self.start != start:
                return False
            if rest is not None:
                stored = _Stored(header, rest.assemble() if isinstance(rest, Remade) else bytes(rest))
                stored = stored._replace(header=read_header(stored.data))
                kept.append((self.positions[index], stored))
                merged.note(stored.header, segments[-1].written_ms)
        at = self.segments.index(segments[0])
        self.segments[at : at + len(segments)] = [merged]
        self.batches[begin:end] = [stored for _, stored in kept]
        self.positions[begin:end] = [position for position, _ in kept]
        self.bases[begin:end] = [stored.header.base_offset for _, stored in kept]
        rows = slice(first_from(self.aborted, bases[0]), first_from(self.aborted, following[0]))
        self.aborted[rows] = sieve.take_aborted()
        return True

    def bounds(self) -> Bounds:
        end = self.head.end_offset
        return Bounds(self.start, end, max(self.head.last_stable_offset, self.start), end)


class MemoryLogs:
    """The seam's `Logs` over dictionaries."""

    _catalogue: Catalogue

    def __init__(self, clock: Clock, node_id: int, turns: Turns) -> None:
        self._clock = clock
        self._turns = turns
        self.leases = SoleLeases(node_id)
        self._logs: dict[LogId, _Log] = {}
        self._checkpoints: dict[LogId, list[Checkpoint]] = {}
        self._uncleanable: set[LogId] = set()
        self._watchers = Watchers()

    def adopt(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def catalogue_changed(self, logs: Iterable[LogId] | None) -> None:
        there: dict[LogId, int] = {}
        gone: list[LogId] = []
        for log in list(dict.fromkeys([*self._catalogue.logs(), *self._logs] if logs is None else logs)):
            if self._catalogue.settings(log) is not None:
                if log not in self._logs:
                    self._logs[log] = _Log()
                there[log] = 0
            elif self._catalogue.is_gone(log) and self._logs.pop(log, None) is not None:
                self._checkpoints.pop(log, None)
                gone.append(log)
        self.leases.lose(gone)
        self.leases.gain(there)
        for log in gone:
            self._watchers.notify(log)

    def epoch_origin(self, log: LogId) -> int:
        return 0

    def append(self, writes: Sequence[Write]) -> Pending:
        return Pending(list(map(self._append, writes)))

    def _append(self, write: Write) -> Outcome:
        log = self._logs.get(write.log)
        if log is None:
            return Outcome(error=Error.UNKNOWN_TOPIC_OR_PARTITION)
        leader_epoch = log.batches[-1][0].leader_epoch if log.batches else NO_LEADER_EPOCH
        verdict = judged(write, log.head, leader_epoch=leader_epoch, log_start_offset=log.start)
        if isinstance(verdict, Outcome):
            return verdict
        log.append(write, verdict, self._settings(write.log), self._clock.now_ms())
        self._watchers.notify(write.log)
        return Outcome(verdict.base_offset, verdict.end_offset, log.start)

    async def read(self, reads: Sequence[Read], max_bytes: int) -> list[Slice]:
        slices = []
        left, found = max_bytes, False
        for read in reads:
            piece = self._read(read, left, whole_first=not found)
            found = found or len(piece.records) > 0
            left -= len(piece.records)
            slices.append(piece)
        return slices

    def _read(self, read: Read, left: int, *, whole_first: bool) -> Slice:
        log = self._logs.get(read.log)
        if log is None:
            return Slice(error=Error.UNKNOWN_TOPIC_OR_PARTITION)
        bounds = log.bounds()
        committed = read.isolation is IsolationLevel.READ_COMMITTED
        around = Slice(
            high_watermark=bounds.high_watermark,
            last_stable_offset=bounds.last_stable_offset,
            log_start_offset=bounds.log_start_offset,
            aborted=[] if committed else None,
        )
        if not bounds.log_start_offset <= read.offset <= bounds.end_offset:
            return around._replace(error=Error.OFFSET_OUT_OF_RANGE)
        limit = bounds.last_stable_offset if committed else bounds.high_watermark
        if read.offset <= limit:
            around = around._replace(segment=_ONLY_SEGMENT, position=log.position_of(read.offset))
        budget = min(read.max_bytes, left)
        pieces: list[bytes] = []
        size, reached = 0, read.offset
        for header, data in log.batches[log.index_of(read.offset) :]:
            if header.base_offset >= limit:
                break
            if size + len(data) > budget and not (whole_first and not pieces):
                break
            pieces.append(data)
            size += len(data)
            reached = header.next_offset
        if not pieces:
            return around
        aborted = None
        if committed:
            rows = overlapping(log.aborted, read.offset, reached)
            aborted = [AbortedTransaction(row.producer_id, row.first_offset) for row in rows]
        return around._replace(records=pieces[0] if len(pieces) == 1 else b"".join(pieces), aborted=aborted)

    def bounds(self, log: LogId) -> Bounds | Error:
        found = self._logs.get(log)
        return found.bounds() if found else Error.UNKNOWN_TOPIC_OR_PARTITION

    def reach(self, log: LogId, isolation: IsolationLevel) -> Reach | Error:
        found = self._logs.get(log)
        if found is None:
            return Error.UNKNOWN_TOPIC_OR_PARTITION
        start, high_watermark, stable, _ = found.bounds()
        limit = stable if isolation is IsolationLevel.READ_COMMITTED else high_watermark
        return Reach(start, limit, _ONLY_SEGMENT, found.position_of(limit))

    async def find_time(self, log: LogId, timestamp: int) -> FoundTime | None:
        found = self._logs[log]
        for header, data in found.batches[found.index_of(found.start) :]:
            if header.max_timestamp >= timestamp:
                record = await self._looked_up(first_at_or_after(data, header, timestamp, found.start))
                if record is not None:
                    return record
        return None

    async def _looked_up(self, lookup: Steps[FoundTime | None]) -> FoundTime | None:
        try:
            return await self._turns.finish(lookup)
        except CorruptBatch as damage:
            raise KafkaError(Error.CORRUPT_MESSAGE) from damage

    async def find_max_time(self, log: LogId) -> FoundTime | None:
        found = self._logs[log]
        batches = found.batches[found.index_of(found.start) :]
        if not batches:
            return None
        header, data = max(batches, key=lambda stored: stored.header.max_timestamp)
        return await self._looked_up(first_with_max_timestamp(data, header))

    async def epoch_end(self, log: LogId, leader_epoch: int) -> EpochEnd | None:
        found = self._logs.get(log)
        if found is None:
            raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
        epoch = -1
        for header, _ in found.batches:
            if header.leader_epoch > leader_epoch:
                return EpochEnd(epoch, header.base_offset) if epoch >= 0 else None
            epoch = header.leader_epoch
        return EpochEnd(epoch, found.head.end_offset) if epoch >= 0 else None

    async def trim(self, log: LogId, offset: int) -> int:
        found = self._logs[log]
        found.trim(offset)
        self._watchers.notify(log)
        return found.start

    async def apply_retention(self, now_ms: int) -> None:
        for log, found in list(self._logs.items()):
            if found.expire(self._settings(log), now_ms):
                self._watchers.notify(log)

    async def clean(self, settings: CleanerSettings) -> bool:
        now_ms = self._clock.now_ms()
        due = []
        for log, found in self._logs.items():
            log_settings = self._settings(log)
            if log_settings.compacts and len(found.segments) > 1 and log not in self._uncleanable:
                section = found.section(log_settings, now_ms)
                if section.is_due(log_settings):
                    due.append((section.dirty_ratio, log, section, log_settings))
        if not due:
            return False
        _, log, section, log_settings = max(due, key=itemgetter(0))
        try:
            return await self._turns.finish(self._logs[log].clean(section, log_settings, settings, now_ms))
        except (CorruptBatch, NoRoom) as damage:
            _log.error("%s cannot be cleaned, and is left as it is: %s", log, damage)
            self._uncleanable.add(log)
            return False

    def _settings(self, log: LogId) -> LogSettings:
        return self._catalogue.settings(log) or LogSettings()

    def size_bytes(self, log: LogId) -> int:
        found = self._logs.get(log)
        return sum(len(stored.data) for stored in found.batches) if found else 0

    def log_dirs(self) -> list[LogDir]:
        return [LogDir("memory", replicas=[Replica(log, self.size_bytes(log)) for log in self._logs])]

    def alter_log_dir(self, log: LogId, path: str) -> Error:
        if path != "memory":
            return Error.LOG_DIR_NOT_FOUND
        return Error.NONE if log in self._logs else Error.UNKNOWN_TOPIC_OR_PARTITION

    async def save_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        if log in self._logs:
            before = [one for one in self._checkpoints.get(log, ()) if one.offset < checkpoint.offset]
            self._checkpoints[log] = [checkpoint, *before[:1]]
            self._logs[log].is_ended = ends_at_checkpoint(self._logs[log].segments)

    async def load_checkpoints(self, log: LogId) -> list[Checkpoint]:
        cleaned_to = self._logs[log].cleaned_to if log in self._logs else 0
        return [checkpoint for checkpoint in self._checkpoints.get(log, ()) if checkpoint.offset >= cleaned_to]

    async def drop_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        if checkpoint in (kept := self._checkpoints.get(log, [])):
            kept.remove(checkpoint)

    def look_again(self, logs: Sequence[LogId]) -> None:
        for log in logs:
            self._watchers.notify(log)

    def watch(self, logs: Sequence[LogId], wake: Callable[[LogId], None]) -> Watch:
        return self._watchers.watch(logs, wake)

    def begin_verification(self, log: LogId, claim: Claim, now_ms: int) -> Verification | Error:
        found = self._logs.get(log)
        return found.head.begin_verification(claim, now_ms) if found else Error.UNKNOWN_TOPIC_OR_PARTITION

    def producers(self, log: LogId) -> Sequence[ActiveProducer] | Error:
        found = self._logs.get(log)
        return found.head.active_producers() if found else Error.UNKNOWN_TOPIC_OR_PARTITION

    async def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        for log in self._logs.values():
            log.head.expire(now_ms, expiration_ms)


@asynccontextmanager
async def open_memory(clock: Clock, node_id: int = 1, turns: Turns | None = None) -> AsyncIterator[MemoryLogs]:
    """A store that lives as long as the block; `turns` are those of the loop's other long work."""
    yield MemoryLogs(clock, node_id, turns or Turns())
