"""Look-ups by time in a partition's log, which meanwhile may be trimmed, compacted or deleted.

The indexes say where to begin, batches' headers which one it is, its records which of them. Called by the store.
"""

from collections.abc import Iterator
from operator import attrgetter

from kafkapy.records.batch import BatchHeader
from kafkapy.storage.base import Buffer, FoundTime
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.segment import Segment
from kafkapy.storage.time_lookup import first_at_or_after, first_with_max_timestamp
from kafkapy.turns import Steps, Turns

_BATCHES_A_STEP = 512
"""How many headers are looked at before others may go on."""

_max_timestamp = attrgetter("max_timestamp")

_Found = tuple[Segment, int, BatchHeader]
"""A batch, and where it lies."""


async def find_time(partition: Partition, timestamp: int, turns: Turns) -> FoundTime | None:
    """See `Logs.find_time`. Raises CorruptBatch, OSError."""
    offset = partition.start_offset
    while (found := await turns.finish(_batch_reaching(partition, timestamp, offset))) is not None:
        header = found[2]
        batch = await _read(partition, *found)
        record = await turns.finish(first_at_or_after(batch, header, timestamp, partition.start_offset))
        if record is not None:
            return record
        offset = header.next_offset
    return None


def _batch_reaching(partition: Partition, timestamp: int, offset: int) -> Steps[_Found | None]:
    """The first batch that says it is this late, and that does not end before `offset`."""
    for segment in partition.segments_from(offset):
        if segment.max_timestamp >= timestamp:
            begin = segment.offset_index.around(offset - segment.base_offset)[0]
            batches = _scan(partition, segment, max(begin, segment.position_for_time(timestamp)))
            for position, header in batches:
                if header is None:
                    yield
                elif header.max_timestamp >= timestamp and header.last_offset >= offset:
                    return segment, position, header
    return None


async def find_max_time(partition: Partition, turns: Turns) -> FoundTime | None:
    """See `Logs.find_max_time`. Raises CorruptBatch, OSError."""
    found = await turns.finish(_latest_batch(partition))
    if found is None:
        return None
    return await turns.finish(first_with_max_timestamp(await _read(partition, *found), found[2]))


def _latest_batch(partition: Partition) -> Steps[_Found | None]:
    """The first of the batches that say they are the latest."""
    best: _Found | None = None
    written = [segment for segment in partition.segments if segment.size]
    for segment in sorted(written, key=_max_timestamp, reverse=True):
        if best is not None and segment.max_timestamp <= best[2].max_timestamp:
            break
        if segment.max_timestamp_offset >= partition.start_offset:
            found = segment.find(segment.max_timestamp_offset)
            if found is not None and found[1].max_timestamp == segment.max_timestamp:
                return segment, *found
        # The log's start hides it, or the index knows it by another offset.
        for position, header in _scan(
            partition, segment, segment.offset_index.around(partition.start_offset - segment.base_offset)[0]
        ):
            if header is None:
                yield
            elif header.last_offset >= partition.start_offset and (
                best is None or header.max_timestamp > best[2].max_timestamp
            ):
                best = segment, position, header
    return best


def _scan(partition: Partition, segment: Segment, begin: int) -> Iterator[tuple[int, BatchHeader | None]]:
    """The segment's batches from a position on; now and then None, where others may go on."""
    for number, (position, header) in enumerate(segment.scan(begin), 1):
        yield position, header
        if number % _BATCHES_A_STEP == 0:
            yield position, None
            if segment.base_offset < partition.segments[0].base_offset:
                return  # it was dropped; one that was replaced can still be read


async def _read(partition: Partition, segment: Segment, position: int, header: BatchHeader) -> Buffer:
    return await partition.read_bytes(segment, position, header.size_bytes)
