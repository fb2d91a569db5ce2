"""Cleans compacted logs: of what lies in pieces, what `storage/compaction.py` leaves is put in its place.

A group of segments is swapped in one statement, as a fold is. What a checkpoint says of them may be older than that:
the segments are then cleaned once more, which changes nothing.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Final

from kafkapy.clock import Clock
from kafkapy.model import LogId
from kafkapy.records.batch import BatchHeader, CorruptBatch, read_header
from kafkapy.records.filtering import Remade
from kafkapy.storage.aborted import first_from, overlapping
from kafkapy.storage.base import Catalogue, CleanerSettings, LogSettings
from kafkapy.storage.compaction import Cleanable, Learner, NoRoom, Section, Sieve, cleanable_section, group_segments
from kafkapy.storage.offset_map import OffsetMap
from kafkapy.storage.segments import Segment
from kafkapy.storage.shared.database import BYTEAS, INT4, INT4S, INT8S, UUID, Link, Statement
from kafkapy.storage.shared.entries import LogKey
from kafkapy.storage.shared.folding import PIECE_BYTES, Folder
from kafkapy.storage.shared.lane import Lane
from kafkapy.storage.shared.log_state import IN_PIECE, LogState, Place
from kafkapy.storage.shared.problems import DatabaseError, OutcomeUnknown
from kafkapy.storage.shared.reader import Moved, Reader
from kafkapy.storage.shared.reading import batches_between
from kafkapy.turns import Steps, Turns

_log = logging.getLogger(__name__)

_SWAP: Final = Statement(
    """
    with h as (select lane from lanes where lane = $1 and epoch = $2 for update),
         d as (delete from pieces p using h where p.lane = h.lane and p.topic_id = $3 and p.partition = $4
                 and p.base_offset = any($5)),
         n as (insert into pieces
                 (lane, topic_id, partition, base_offset, end_offset, position, size, max_timestamp, data)
               select h.lane, $3, $4, n.* from h, unnest($6::bigint[], $7::bigint[], $8::bigint[], $9::int[],
                 $10::bigint[], $11::bytea[]) as n(base_offset, end_offset, position, size, max_timestamp, data)
               on conflict (lane, topic_id, partition, base_offset) do update set end_offset = excluded.end_offset,
                 position = excluded.position, size = excluded.size, max_timestamp = excluded.max_timestamp,
                 data = excluded.data)
    select lane from h
    """,
    (INT4, INT4, UUID, INT4, INT8S, INT8S, INT8S, INT8S, INT4S, INT8S, BYTEAS),
)


class Cleaner:
    """The store's cleaner."""

    def __init__(self, link: Link, clock: Clock, turns: Turns, reader: Reader, folder: Folder) -> None:
        self._link = link
        self._clock = clock
        self._turns = turns
        self._reader = reader
        self._folder = folder
        self._uncleanable: set[LogId] = set()

    async def clean_dirtiest(self, lanes: Mapping[LogId, Lane], catalogue: Catalogue, cleaner: CleanerSettings) -> bool:
        """Clean the dirtiest of these logs that are dirty enough; false when there was none, or it failed."""
        now_ms, due = self._clock.now_ms(), []
        for log, lane in lanes.items():
            settings = catalogue.settings(log)
            if settings is not None and settings.compacts and log not in self._uncleanable:
                section = _section(lane.log(_key(log)), settings, now_ms)
                if section.is_due(settings):
                    due.append((section.dirty_ratio, log, lane, settings))
        if not due:
            return False
        _, log, lane, settings = max(due, key=itemgetter(0))
        try:
            await self._folder.fold(lane)
            async with lane.turn:
                round_ = _Round(self._link, self._reader, self._turns, lane, _key(log))
                return lane.epoch >= 0 and await round_.clean(settings, cleaner, now_ms)
        except (CorruptBatch, NoRoom) as damage:
            _log.error("%s cannot be cleaned, and is left as it is: %s", log, damage)
            self._uncleanable.add(log)
        except (Moved, DatabaseError) as failure:
            _log.warning("%s was not cleaned, which is tried again: %s", log, failure)
        return False


class _Round:
    """One cleaning of one log, whose lane's bytes nobody else moves meanwhile."""

    def __init__(self, link: Link, reader: Reader, turns: Turns, lane: Lane, key: LogKey) -> None:
        self._link = link
        self._reader = reader
        self._turns = turns
        self._lane = lane
        self._key = key
        self._log = lane.log(key)

    async def clean(self, settings: LogSettings, cleaner: CleanerSettings, now_ms: int) -> bool:
        log = self._log
        section = _section(log, settings, now_ms)
        first_dirty, end = section.first_dirty, section.end_offset
        if end <= first_dirty or any(place.seq != IN_PIECE and place.base_offset < end for place in log.places):
            return False  # something came meanwhile that is not folded
        rows = overlapping(log.aborted, log.start, end)
        with closing(
            OffsetMap(end - first_dirty, cleaner.dedupe_buffer_size, cleaner.io_buffer_load_factor)
        ) as offsets:
            learner = Learner(offsets, first_dirty, overlapping(log.aborted, first_dirty, end))
            for place in _between(log, first_dirty, end):
                if not await self._turns.finish(_learn(learner, await self._batches(place, first_dirty, end))):
                    break
            else:
                learner.passed(end)
            clean_to = learner.finish()
            sieve = Sieve(offsets, clean_to, rows, log.head.producers, settings.delete_retention_ms, now_ms)
            sealed = [one for one in log.cleanable() if one.base_offset < clean_to]
            index = 0
            for count in group_segments(sealed, end, settings):
                if not await self._clean_group(sealed[index : index + count], sieve):
                    return False
                index += count
        log.cleaned_to = clean_to
        return True

    async def _batches(self, place: Place, first: int, end: int) -> Sequence[tuple[BatchHeader, memoryview]]:
        [data] = await self._reader.read(self._lane.number, self._key, [place])
        return batches_between(data, first, end)

    async def _clean_group(self, group: Sequence[Cleanable], sieve: Sieve) -> bool:
        log, start = self._log, self._log.start
        bases = [one.base_offset for one in group]
        following = min(one.base_offset for one in log.segments if one.base_offset > bases[-1])
        places = [place for place in log.places if bases[0] <= place.base_offset < following]
        merged, pieces = Segment(bases[0]), list[tuple[Place, bytes]]()
        written_ms = max(segment.written_ms for segment in log.segments if segment.base_offset in bases)
        draft = _Draft()
        for index, place in enumerate(places):
            batches = await self._batches(place, 0, following)
            await self._turns.finish(_sift(sieve, batches, index == len(places) - 1, draft.add))
            if log.start != start or self._lane.epoch < 0:
                return False
            is_last = index == len(places) - 1
            if draft.size and (is_last or draft.size >= PIECE_BYTES // 2):
                for header in draft.headers:
                    merged.note(header, written_ms)
                pieces.append(draft.piece(place, following if is_last else place.end_offset))
                draft = _Draft()
        if not await self._swap(places, pieces):
            return False
        for place in places:
            self._reader.forget(self._lane.number, self._key, place.base_offset)
        at = next(index for index, one in enumerate(log.segments) if one.base_offset == bases[0])
        log.segments[at : at + len(bases)] = [merged]
        kept = [place for place in log.places if place.base_offset >= following]
        before = [place for place in log.places if place.base_offset < bases[0]]
        log.places = [*before, *(place for place, _ in pieces), *kept]
        gone = slice(first_from(log.aborted, bases[0]), first_from(log.aborted, following))
        log.aborted[gone] = sieve.take_aborted()
        return True

    async def _swap(self, places: Sequence[Place], pieces: Sequence[tuple[Place, bytes]]) -> bool:
        kept = {place.base_offset for place, _ in pieces}
        doomed = [place.base_offset for place in places if place.base_offset not in kept]
        while True:
            try:
                rows = await self._link.run(
                    _SWAP,
                    self._lane.number,
                    self._lane.epoch,
                    self._key.topic_id,
                    self._key.partition,
                    doomed,
                    [place.base_offset for place, _ in pieces],
                    [place.end_offset for place, _ in pieces],
                    [place.position for place, _ in pieces],
                    [place.size for place, _ in pieces],
                    [place.max_timestamp for place, _ in pieces],
                    [data for _, data in pieces],
                )
            except OutcomeUnknown:
                continue  # doing it twice is doing it once
            return bool(rows)


class _Draft:
    """What is left of some batches."""

    def __init__(self) -> None:
        self.headers: list[BatchHeader] = []
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, batch: bytes) -> None:
        self.headers.append(read_header(batch))
        self.parts.append(batch)
        self.size += len(batch)

    def piece(self, last: Place, end_offset: int) -> tuple[Place, bytes]:
        latest = max(header.max_timestamp for header in self.headers)
        first = self.headers[0].base_offset
        return Place(first, end_offset, last.position, self.size, latest), b"".join(self.parts)


def _section(log: LogState, settings: LogSettings, now_ms: int) -> Section:
    return cleanable_section(log.cleanable(), log.cleaned_to, log.bounds(), settings, now_ms)


def _between(log: LogState, first: int, end: int) -> list[Place]:
    return [place for place in log.places if place.end_offset > first and place.base_offset < end]


def _learn(learner: Learner, batches: Sequence[tuple[BatchHeader, memoryview]]) -> Steps[bool]:
    for header, batch in batches:
        if not (yield from learner.note(header, batch)):
            return False
    return True


def _sift(
    sieve: Sieve, batches: Sequence[tuple[BatchHeader, memoryview]], is_last: bool, keep: Callable[[bytes], None]
) -> Steps[None]:
    for index, (header, batch) in enumerate(batches):
        rest = yield from sieve.sift(header, batch, is_last=is_last and index == len(batches) - 1)
        if rest is not None:
            keep(rest.assemble() if isinstance(rest, Remade) else bytes(rest))


def _key(log: LogId) -> LogKey:
    return LogKey(log.topic_id, log.partition)
