"""Reads one log as its lane's owner writes it, without owning it: entry after entry, as who takes a lane over.

The metadata log is followed so by every process. Of the other logs in that lane nothing is kept here. Asked at the same
time is whether anything moves among processes and lanes, so one statement every so often is all that idleness costs.
"""

import logging
from collections.abc import Callable
from math import inf
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.storage.shared.database import INT4, INT8, UUID, Link, Statement
from kafkapy.storage.shared.entries import BadEntry, LogKey, decode_entry
from kafkapy.storage.shared.lane import BadCheckpoint, Lane
from kafkapy.storage.shared.log_state import Place
from kafkapy.storage.shared.problems import DatabaseError, StatementFailed, lost_entries

_log = logging.getLogger(__name__)

_MOVES: Final = Statement("select moves from cluster")

_POLL: Final = Statement(
    """
    select (select moves from cluster), l.seq, l.checkpoint_seq, c.seq, c.index, octet_length(c.data)
    from lanes l left join commits c on c.lane = l.lane and c.seq > $2 where l.lane = $1 order by c.seq limit 1000
    """,
    (INT4, INT8),
)

_BEGIN: Final = "begin isolation level repeatable read read only"

_CHECKPOINT: Final = Statement("select seq, state from checkpoints where lane = $1", (INT4,))

_PIECES: Final = Statement(
    """
    select base_offset, end_offset, position, size, max_timestamp from pieces
    where lane = $1 and topic_id = $2 and partition = $3 order by base_offset
    """,
    (INT4, UUID, INT4),
)

_ENTRIES: Final = Statement(
    "select seq, index, octet_length(data) from commits where lane = $1 and seq > $2 order by seq", (INT4, INT8)
)

_MANY_PLACES: Final = 256
"""So many entries' places, of which most were folded long ago, are given up for those of pieces."""

_READ_AGAIN_SECONDS: Final = 10.0

_UNREADABLE: Final = (BadCheckpoint, BadEntry, StatementFailed)


class Followed:
    """A log of a lane of whoever owns it. `grown` is called when there is more of it.

    `lane` is what is known of it. It is not to be trusted while this process owns the lane itself, nor right after: it
    is brought up to date with the first `poll` then.
    """

    def __init__(self, link: Link, number: int, log: LogKey | None, clock: Clock, grown: Callable[[], None]) -> None:
        """Without a log only the moves are looked at."""
        self.lane = Lane(number)
        self._link = link
        self._log = log
        self._clock = clock
        self._grown = grown
        self._turn = trio.Lock()
        self._is_stale = True
        self._is_owned = False
        self._read_again_at = -inf
        self._said: str | None = None

    def own(self, lane: Lane) -> None:
        """This process writes the lane itself from now on."""
        self.lane = lane
        self._is_owned = True

    def disown(self) -> None:
        """The lane is another's: what was known of it may have had what was never committed."""
        self._is_owned = False
        self._is_stale = True

    async def poll(self) -> int:
        """Take what has come to the log; the number of moves. Raises DatabaseError, UnfitDatabase."""
        async with self._turn:
            if self._log is None or self._is_owned:
                return await self._moves()
            if self.lane.damage is not None and self._clock.monotonic() < self._read_again_at:
                return await self._moves()
            try:
                return await (self._load(self._log) if self._is_stale else self._catch_up(self._log))
            except _UNREADABLE as damage:
                return await self._spoil(damage)

    async def reload(self) -> None:
        """Find out anew where the log's bytes are. Raises DatabaseError."""
        async with self._turn:
            if self._log is not None and not self._is_owned:
                try:
                    await self._load(self._log)
                except _UNREADABLE as damage:
                    await self._spoil(damage)

    async def _catch_up(self, log: LogKey) -> int:
        lane = self.lane
        rows = await self._link.run(_POLL, lane.number, lane.seq)
        if not rows:
            raise BadEntry("it has no head")
        if self._is_owned or self.lane is not lane:
            return int(rows[0][0])
        moves, seq, checkpoint_seq = rows[0][:3]
        if seq < lane.seq:
            raise lost_entries(lane.number, seq, lane.seq)
        state = lane.log(log)
        if checkpoint_seq > lane.seq or (checkpoint_seq > lane.checkpoint_seq and len(state.places) > _MANY_PLACES):
            return await self._load(log)
        grew = False
        for *_, entry_seq, index, size in rows:
            if entry_seq is not None:
                grew = bool(lane.replay(entry_seq, decode_entry(index), size, log)) or grew
        if grew:
            self._grown()
        return int(moves)

    async def _moves(self) -> int:
        [(moves,)] = await self._link.run(_MOVES)
        return int(moves)

    async def _spoil(self, damage: Exception) -> int:
        """It cannot be read now, which is tried again; the number of moves."""
        if isinstance(damage, StatementFailed) and not damage.is_damage:
            raise damage
        if str(damage) != self._said:
            self._said = str(damage)
            _log.error("what all brokers read cannot be read from lane %d: %s", self.lane.number, damage)
        if not self._is_owned:
            self.lane = Lane(self.lane.number)
            self.lane.spoil(str(damage))
            self._is_stale = True
            self._read_again_at = self._clock.monotonic() + _READ_AGAIN_SECONDS
        return await self._moves()

    async def _load(self, log: LogKey) -> int:
        lane = Lane(self.lane.number)
        try:
            await self._link.script(_BEGIN)
            moves = await self._moves()
            pieces = [(log, Place(*row)) for row in await self._link.run(_PIECES, lane.number, *log)]
            for seq, state in await self._link.run(_CHECKPOINT, lane.number):
                lane.restore(seq, state, pieces)
                lane.logs = {key: known for key, known in lane.logs.items() if key == log}
            for seq, index, size in await self._link.run(_ENTRIES, lane.number, lane.seq):
                lane.replay(seq, decode_entry(index), size, log)
            await self._link.script("commit")
        except (DatabaseError, *_UNREADABLE):
            self._link.close()  # and with it the transaction
            raise
        if not self._is_owned:
            self.lane = lane
            self._is_stale = False
            self._said = None
            self._grown()
        return moves
