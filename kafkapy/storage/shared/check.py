"""Reads a whole cluster in its database, as of one moment, and names every invariant that does not hold.

Brokers may go on meanwhile. Called by `kafkapy check --database`.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Final

from kafkapy.clock import Clock
from kafkapy.records.batch import BatchHeader, CorruptBatch, crc_matches, walk
from kafkapy.storage.shared.database import INT4, INT8, UUID, Link, Statement
from kafkapy.storage.shared.entries import BadEntry, Chunk, LogKey, decode_entry
from kafkapy.storage.shared.lane import BadCheckpoint, Lane, lane_of
from kafkapy.storage.shared.log_state import LogState, Place
from kafkapy.storage.shared.preparing import FORMAT
from kafkapy.storage.shared.problems import StatementFailed

_BEGIN: Final = "begin isolation level repeatable read read only"
_CLUSTER: Final = Statement("select id, format, lanes from cluster")
_LANES: Final = Statement("select lane, epoch, seq, checkpoint_seq from lanes order by lane")
_CHECKPOINT: Final = Statement("select seq, state from checkpoints where lane = $1", (INT4,))
_PIECES: Final = Statement(
    """
    select topic_id, partition, base_offset, end_offset, position, size, max_timestamp from pieces where lane = $1
    order by topic_id, partition, base_offset
    """,
    (INT4,),
)
_PIECE: Final = Statement(
    "select data from pieces where lane = $1 and topic_id = $2 and partition = $3 and base_offset = $4",
    (INT4, UUID, INT4, INT8),
)
_ENTRIES: Final = Statement("select seq, epoch from commits where lane = $1 order by seq", (INT4,))
_ENTRY: Final = Statement("select index, data from commits where lane = $1 and seq = $2", (INT4, INT8))


async def check(url: str, schema: str, clock: Clock) -> AsyncIterator[str]:
    """What is wrong, one finding after the other. Raises DatabaseError where there is no cluster to read."""
    link = Link(url, schema, clock)
    try:
        await link.script(_BEGIN)
        [(_, known_format, lane_count)] = await link.run(_CLUSTER)
        if known_format != FORMAT:
            yield f"the tables are of format {known_format}, and this kafkapy knows {FORMAT}"
            return
        lanes = await link.run(_LANES)
        if [number for number, *_ in lanes] != list(range(lane_count)):
            yield f"there are lanes {[number for number, *_ in lanes]}, and should be {lane_count}"
        for number, epoch, seq, checkpoint_seq in lanes:
            try:
                async for problem in _lane(link, number, epoch, seq, checkpoint_seq, lane_count):
                    yield f"lane {number}: {problem}"
            except StatementFailed as failure:
                if not failure.is_damage:
                    raise
                yield f"lane {number}: {failure}"
                await link.script(f"rollback; {_BEGIN}")
    finally:
        link.close()


async def _lane(
    link: Link, number: int, epoch: int, seq: int, checkpoint_seq: int, lane_count: int
) -> AsyncIterator[str]:
    lane = Lane(number)
    pieces = [
        (LogKey(topic_id, partition), Place(*place)) for topic_id, partition, *place in await link.run(_PIECES, number)
    ]
    checkpoints = await link.run(_CHECKPOINT, number)
    if (checkpoints[0][0] if checkpoints else 0) != checkpoint_seq:
        yield f"its checkpoint is not that of entry {checkpoint_seq}"
    for found_seq, state in checkpoints:
        try:
            lane.restore(found_seq, state, pieces)
        except BadCheckpoint as damage:
            yield f"the checkpoint cannot be read: {damage}"
            return
    for key, base_offset in sorted(lane.doomed):
        yield f"{_name(key)}: a piece at offset {base_offset} is of no log"
    for key, place in pieces:
        [(data,)] = await link.run(_PIECE, number, key.topic_id, key.partition, place.base_offset)
        for problem in _piece(place, data):
            yield f"{_name(key)}: the piece at offset {place.base_offset}: {problem}"
    last_epoch = -1
    for entry_seq, entry_epoch in await link.run(_ENTRIES, number):
        if entry_seq != lane.seq + 1:
            yield f"entry {entry_seq} follows entry {lane.seq}"
            return
        if not last_epoch <= entry_epoch <= epoch:
            yield f"entry {entry_seq} is of epoch {entry_epoch}, after {last_epoch}, in a lane of epoch {epoch}"
        last_epoch = entry_epoch
        [(index, data)] = await link.run(_ENTRY, number, entry_seq)
        try:
            entry = decode_entry(index)
        except BadEntry as damage:
            yield f"entry {entry_seq}: {damage}"
            return
        at, ends = 0, dict[LogKey, int]()
        for change in entry.changes:
            if isinstance(change, Chunk):
                end = ends.get(change.log, lane.logs[change.log].head.end_offset if change.log in lane.logs else 0)
                for problem in _chunk(end, change, data[at : at + change.size_bytes]):
                    yield f"{_name(change.log)}: entry {entry_seq}: {problem}"
                at += change.size_bytes
                ends[change.log] = change.headers[-1].next_offset
        try:
            lane.replay(entry_seq, entry, len(data))
        except BadEntry as damage:
            yield str(damage)
            return
    if lane.seq != seq:
        yield f"its last entry is {lane.seq}, and its head says {seq}"
    for key, log in lane.logs.items():
        if lane_of(key, lane_count) != number:
            yield f"{_name(key)} belongs to lane {lane_of(key, lane_count)}"
        for problem in _log(log):
            yield f"{_name(key)}: {problem}"


def _piece(place: Place, data: bytes) -> Iterator[str]:
    if len(data) != place.size:
        yield f"it has {len(data)} bytes instead of {place.size}"
    end, read = place.base_offset, 0
    try:
        for position, header in walk(data):
            if header.base_offset < end:
                yield f"the batch at offset {header.base_offset} follows one that ends at {end}"
            if not crc_matches(data, position, header):
                yield f"the batch at offset {header.base_offset} fails its CRC"
            end, read = header.next_offset, position + header.size_bytes
    except CorruptBatch as damage:
        yield str(damage)
        return
    if read != len(data):
        yield f"it ends in {len(data) - read} bytes that are no batch"
    if end > place.end_offset:
        yield f"it ends at offset {end} instead of {place.end_offset}"


def _chunk(end: int, chunk: Chunk, data: bytes) -> Iterator[str]:
    if chunk.headers[0].base_offset != end:
        yield f"it begins at offset {chunk.headers[0].base_offset}, and the log ends at {end}"
    read = 0
    try:
        for told, (position, header) in zip(chunk.headers, walk(data), strict=False):
            if (told.base_offset, told.size_bytes, told.leader_epoch, _sequence(told)) != (
                header.base_offset,
                header.size_bytes,
                header.leader_epoch,
                _sequence(header),
            ):
                yield f"the batch at offset {header.base_offset} is not the one that it tells of"
            if not crc_matches(data, position, header):
                yield f"the batch at offset {header.base_offset} fails its CRC"
            read = position + header.size_bytes
    except CorruptBatch as damage:
        yield str(damage)
        return
    if read != chunk.size_bytes:
        yield f"of {chunk.size_bytes} bytes {read} are batches"


def _sequence(header: BatchHeader) -> tuple[int, int] | None:
    """Whose batch it is, and from which number on. Without a producer the numbers are anything: aiokafka's are 0."""
    return (header.producer_id, header.base_sequence) if header.has_producer else None


def _log(log: LogState) -> Iterator[str]:
    end = log.start
    for place in log.places:
        if place.base_offset > max(end, log.cleaned_to) or (place.base_offset < end and end > log.start):
            yield f"bytes of offset {place.base_offset} follow those that end at {end}"
        end = place.end_offset
    if log.places and end != log.head.end_offset:
        yield f"its bytes end at offset {end}, and it at {log.head.end_offset}"


def _name(key: LogKey) -> str:
    return f"topic {key.topic_id.hex()} partition {key.partition}"
