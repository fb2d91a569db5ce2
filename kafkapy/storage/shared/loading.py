"""Reads lanes from the database: checkpoints, pieces, and the entries after them. No record is looked at.

A lane that cannot be read is the trouble of its logs alone: it says so (`Lane.damage`), and others are read.
"""

from collections.abc import Sequence
from typing import Final

import trio

from kafkapy.storage.shared.database import INT4S, INT8S, Link, Statement
from kafkapy.storage.shared.entries import BadEntry, LogKey, decode_entry
from kafkapy.storage.shared.lane import BadCheckpoint, Lane
from kafkapy.storage.shared.log_state import Place
from kafkapy.storage.shared.problems import StatementFailed

_HEADS: Final = Statement(
    """
    select l.lane, l.seq, l.checkpoint_seq, c.seq, c.state
    from lanes l left join checkpoints c on c.lane = l.lane and c.lane = any($1) where l.lane = any($1)
    """,
    (INT4S,),
)

_PIECES: Final = Statement(
    """
    select lane, topic_id, partition, base_offset, end_offset, position, size, max_timestamp from pieces
    where lane = any($1) order by lane, topic_id, partition, base_offset
    """,
    (INT4S,),
)

_ENTRIES: Final = Statement(
    """
    select c.lane, c.seq, c.index, octet_length(c.data) from unnest($1::int[], $2::bigint[]) as w(lane, seq)
    join commits c on c.lane = w.lane and c.seq > w.seq order by c.lane, c.seq
    """,
    (INT4S, INT8S),
)

_BITE: Final = 50
"""Replay is work on the event loop: after some milliseconds' work the other tasks get their turn."""


async def load_lanes(link: Link, lanes: Sequence[Lane]) -> None:
    """Bring these empty lanes, which are ours, to where the database has them. Raises DatabaseError."""
    try:
        await _load(link, lanes)
    except StatementFailed as failure:
        if not failure.is_damage:
            raise
        if len(lanes) == 1:
            lanes[0].spoil(str(failure).partition("\n")[0])
        else:
            for lane in lanes:
                await load_lanes(link, [lane])


async def _load(link: Link, lanes: Sequence[Lane]) -> None:
    by_number = {lane.number: lane for lane in lanes}
    numbers = list(by_number)
    pieces: dict[int, list[tuple[LogKey, Place]]] = {}
    for number, topic_id, partition, *place in await link.run(_PIECES, numbers):
        pieces.setdefault(number, []).append((LogKey(topic_id, partition), Place(*place)))
    ends: dict[int, int] = {}
    for number, seq, checkpoint_seq, found_seq, state in await link.run(_HEADS, numbers):
        lane, ends[number] = by_number[number], seq
        try:
            if state is not None:
                lane.restore(found_seq, state, pieces.pop(number, ()))
            if lane.checkpoint_seq != checkpoint_seq:
                lane.spoil(f"its checkpoint is not that of entry {checkpoint_seq}")
        except BadCheckpoint as damage:
            lane.spoil(f"its checkpoint cannot be read: {damage}")
    sound = [lane for lane in lanes if lane.damage is None]
    for number, seq, index, size in await link.run(
        _ENTRIES, [lane.number for lane in sound], [lane.seq for lane in sound]
    ):
        lane = by_number[number]
        if lane.damage is None:
            try:
                lane.replay(seq, decode_entry(index), size)
            except BadEntry as damage:
                lane.spoil(f"entry {seq} cannot be read: {damage}")
            if seq % _BITE == 0:
                await trio.lowlevel.checkpoint()
    for lane in sound:
        if lane.damage is None and lane.seq != ends[lane.number]:
            lane.spoil(f"its last entry is {lane.seq}, and its head says {ends[lane.number]}")
