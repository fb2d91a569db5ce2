"""Reads lanes from the database: checkpoints, pieces, and the entries after them. No record is looked at."""

from collections.abc import Sequence
from typing import Final

import trio

from kafkapy.storage.shared.database import INT4S, INT8S, Link, Statement
from kafkapy.storage.shared.entries import LogKey, decode_entry
from kafkapy.storage.shared.lane import Lane
from kafkapy.storage.shared.log_state import Place

_CHECKPOINTS: Final = Statement("select lane, seq, state from checkpoints where lane = any($1)", (INT4S,))

_PIECES: Final = Statement(
    """
    select lane, topic_id, partition, base_offset, end_offset, position, size, max_timestamp from pieces
    where lane = any($1) order by lane, topic_id, partition, base_offset
    """,
    (INT4S,),
)

ENTRIES: Final = Statement(
    """
    select c.lane, c.seq, c.index from unnest($1::int[], $2::bigint[]) as w(lane, seq)
    join commits c on c.lane = w.lane and c.seq > w.seq order by c.lane, c.seq
    """,
    (INT4S, INT8S),
)


async def load_lanes(link: Link, lanes: Sequence[Lane]) -> None:
    """Bring these empty lanes to where the database has them. Raises DatabaseError, BadCheckpoint, BadEntry."""
    by_number = {lane.number: lane for lane in lanes}
    numbers = list(by_number)
    pieces: dict[int, list[tuple[LogKey, Place]]] = {}
    for lane, topic_id, partition, *place in await link.run(_PIECES, numbers):
        pieces.setdefault(lane, []).append((LogKey(topic_id, partition), Place(*place)))
    for lane, seq, state in await link.run(_CHECKPOINTS, numbers):
        by_number[lane].restore(seq, state, pieces.pop(lane, ()))
    for lane, seq, index in await link.run(ENTRIES, numbers, [by_number[number].seq for number in numbers]):
        by_number[lane].replay(seq, decode_entry(index))
        await trio.lowlevel.checkpoint()  # a lane may have thousands of them
