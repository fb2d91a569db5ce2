"""What a reader of a log gets, and which record has which time: over the places of its bytes."""

from collections.abc import Iterator, Sequence

from kafkapy.errors import Error
from kafkapy.model import IsolationLevel
from kafkapy.records.batch import BatchHeader, walk
from kafkapy.storage.aborted import overlapping
from kafkapy.storage.base import AbortedTransaction, FoundTime, Read, Slice
from kafkapy.storage.shared.entries import LogKey
from kafkapy.storage.shared.lane import Lane
from kafkapy.storage.shared.log_state import ONLY_SEGMENT, LogState, Place
from kafkapy.storage.shared.reader import Reader
from kafkapy.storage.time_lookup import first_at_or_after, first_with_max_timestamp
from kafkapy.turns import Turns


async def read(reader: Reader, lane: Lane, key: LogKey, read: Read, left: int, *, whole_first: bool) -> Slice:
    """One read of a log. Raises Moved, DatabaseError, CorruptBatch."""
    log = lane.log(key)
    start, high_watermark, stable, _ = log.bounds()
    committed = read.isolation is IsolationLevel.READ_COMMITTED
    around = Slice(
        high_watermark=high_watermark,
        last_stable_offset=stable,
        log_start_offset=start,
        aborted=[] if committed else None,
    )
    offset = read.offset
    if not start <= offset <= high_watermark:
        return around._replace(error=Error.OFFSET_OUT_OF_RANGE)
    limit = stable if committed else high_watermark
    if offset > limit:
        return around
    seen = log.seen
    budget = min(read.max_bytes, left)
    places = _wanted(log, offset, limit, budget)
    if not places:
        at_end = seen.end_position if offset >= seen.end_offset else seen.stable_position
        return around._replace(segment=ONLY_SEGMENT, position=at_end)
    parts: list[memoryview] = []
    size, reached, position = 0, offset, -1
    for place, data in zip(places, await reader.read(lane.number, key, places), strict=True):
        begin = _begin(data, offset) if place.base_offset < offset else 0
        if position < 0:
            position = place.position + begin
        end, reached_here = _until(data, begin, place, limit, budget - size, whole_first and not size)
        if end > begin:
            parts.append(data[begin:end])
            size += end - begin
            reached = reached_here
        if end < len(data):
            break
    around = around._replace(segment=ONLY_SEGMENT, position=position)
    if not parts:
        return around
    aborted = None
    if committed:
        rows = overlapping(log.aborted, offset, reached)
        aborted = [AbortedTransaction(row.producer_id, row.first_offset) for row in rows]
    return around._replace(records=parts[0] if len(parts) == 1 else b"".join(parts), aborted=aborted)


def _wanted(log: LogState, offset: int, limit: int, budget: int) -> list[Place]:
    places: list[Place] = []
    size = 0
    for index in range(log.index_of(offset), len(log.places)):
        place = log.places[index]
        if place.base_offset >= limit or (places and size >= budget):
            break
        places.append(place)
        size += place.size
    return places


def _begin(data: memoryview, offset: int) -> int:
    """Where the batch begins that holds the offset, or the first one after it."""
    for position, header in walk(data):
        if header.last_offset >= offset:
            return position
    return len(data)


def _until(data: memoryview, begin: int, place: Place, limit: int, budget: int, whole_first: bool) -> tuple[int, int]:
    """Where what a reader gets of these bytes ends, and the offset after it."""
    if place.end_offset <= limit and len(data) - begin <= budget:
        return len(data), place.end_offset
    end, reached = begin, place.base_offset
    for position, header in walk(data, begin):
        if header.base_offset >= limit:
            break
        if position + header.size_bytes - begin > budget and not (whole_first and end == begin):
            break
        end, reached = position + header.size_bytes, header.next_offset
    return end, reached


async def find_time(reader: Reader, lane: Lane, key: LogKey, timestamp: int, turns: Turns) -> FoundTime | None:
    """The first record that is as late. Raises Moved, DatabaseError, CorruptBatch."""
    log = lane.log(key)
    start = log.start
    for place in [place for place in log.places if place.max_timestamp >= timestamp]:
        if place.base_offset >= log.seen.end_offset:
            break
        [data] = await reader.read(lane.number, key, [place])
        for header, batch in _batches(data):
            if header.max_timestamp >= timestamp and header.last_offset >= start:
                found = await turns.finish(first_at_or_after(batch, header, timestamp, start))
                if found is not None:
                    return found
    return None


async def find_max_time(reader: Reader, lane: Lane, key: LogKey, turns: Turns) -> FoundTime | None:
    """The record with the largest timestamp. Raises Moved, DatabaseError, CorruptBatch."""
    log = lane.log(key)
    start = log.start
    places = [place for place in log.places if place.base_offset < log.seen.end_offset]
    best: tuple[BatchHeader, memoryview] | None = None
    for place in sorted(places, key=_latest_first):
        if best is not None and place.max_timestamp < best[0].max_timestamp:
            break
        [data] = await reader.read(lane.number, key, [place])
        for header, batch in _batches(data):
            if header.last_offset >= start and (best is None or header.max_timestamp > best[0].max_timestamp):
                best = header, batch
    return None if best is None else await turns.finish(first_with_max_timestamp(best[1], best[0]))


def _latest_first(place: Place) -> tuple[int, int]:
    return -place.max_timestamp, place.base_offset


def _batches(data: memoryview) -> Iterator[tuple[BatchHeader, memoryview]]:
    for position, header in walk(data):
        yield header, data[position : position + header.size_bytes]


def batches_between(data: memoryview, first: int, end: int) -> Sequence[tuple[BatchHeader, memoryview]]:
    """The batches of these bytes that begin before `end` and end at or after `first`."""
    return [
        (header, batch) for header, batch in _batches(data) if header.next_offset > first and header.base_offset < end
    ]
