"""Folds a lane's entries: their bytes become pieces of the logs, the lane's state a checkpoint, and the rows go.

So a takeover reads few entries, whatever is stored, and a log's bytes lie together, where retention and compaction can
take them. A fold is one statement, which does nothing unless the lane is still ours and its checkpoint the one before.

Invariants
 1. Pieces, checkpoint and the removal of entries come in one: at every moment a lane is its checkpoint, the pieces that
    there are, and the entries after the checkpoint.
 2. A piece lies in one segment, as segments were when it was made.
 3. Small pieces are joined with those that follow once these are as large: a byte is moved a few times, ever.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.storage.shared.database import BYTEA, BYTEAS, INT4, INT4S, INT8, INT8S, UUIDS, Link, Statement
from kafkapy.storage.shared.entries import LogKey
from kafkapy.storage.shared.lane import Lane, PieceKey
from kafkapy.storage.shared.log_state import IN_PIECE, LogState, Place
from kafkapy.storage.shared.problems import DatabaseError, StatementFailed
from kafkapy.storage.shared.reader import Moved, Reader

_log = logging.getLogger(__name__)

PIECE_BYTES: Final = 512 << 10

FOLD: Final = Statement(
    """
    with h as (update lanes set checkpoint_seq = $3 where lane = $1 and epoch = $2 and checkpoint_seq = $4
               returning lane),
         c as (insert into checkpoints (lane, seq, state) select lane, $3, $5 from h
               on conflict (lane) do update set seq = excluded.seq, state = excluded.state),
         t as (delete from commits using h where commits.lane = h.lane and commits.seq <= $3),
         r as (delete from coordinators k using h, unnest($6::uuid[], $7::int[]) as g(topic_id, partition)
               where k.topic_id = g.topic_id and k.partition = g.partition),
         d as (delete from pieces p using h, unnest($8::uuid[], $9::int[], $10::bigint[])
                 as g(topic_id, partition, base_offset)
               where p.lane = h.lane and p.topic_id = g.topic_id and p.partition = g.partition
                 and p.base_offset = g.base_offset),
         n as (insert into pieces
                 (lane, topic_id, partition, base_offset, end_offset, position, size, max_timestamp, data)
               select h.lane, n.* from h, unnest($11::uuid[], $12::int[], $13::bigint[], $14::bigint[], $15::bigint[],
                 $16::int[], $17::bigint[], $18::bytea[])
                 as n(topic_id, partition, base_offset, end_offset, position, size, max_timestamp, data)
               on conflict (lane, topic_id, partition, base_offset) do update set end_offset = excluded.end_offset,
                 position = excluded.position, size = excluded.size, max_timestamp = excluded.max_timestamp,
                 data = excluded.data)
    select lane from h
    """,
    (INT4, INT4, INT8, INT8, BYTEA, UUIDS, INT4S, UUIDS, INT4S, INT8S)
    + (UUIDS, INT4S, INT8S, INT8S, INT8S, INT4S, INT8S, BYTEAS),
)

_WHERE: Final = Statement("select epoch, checkpoint_seq from lanes where lane = $1", (INT4,))

_BYTES: Final = 4 << 20
FOLDED_BATCHES: Final = 2_500
_SECONDS: Final = 60.0
"""A lane is folded once so much has come since, or so long ago. What has is read when the lane is taken over, at some
40 microseconds a batch: a tenth of a second at most, for which all clients of its partitions wait.
"""

_RETRY_SECONDS: Final = 1.0

_ATTEMPTS: Final = 3
"""So often it is tried to fold a lane that is asked for."""


class NewPiece(NamedTuple):
    """A piece to be, its bytes, and the old ones that it replaces."""

    log: LogKey
    place: Place
    data: bytes


class _Plan(NamedTuple):
    """A lane's state at one moment, and the places that are to become pieces."""

    lane: Lane
    epoch: int
    seq: int
    before: int
    state: bytes
    doomed: frozenset[PieceKey]
    removed: frozenset[LogKey]
    moves: dict[LogKey, list[list[Place]]]


class Folder:
    """Folds lanes when they are due. `is_quiet`: whether the states of lanes have nothing that is not committed."""

    def __init__(
        self,
        link: Link,
        clock: Clock,
        reader: Reader,
        lanes: Callable[[], Iterable[Lane]],
        is_quiet: Callable[[], bool],
    ) -> None:
        self._link = link
        self._clock = clock
        self._reader = reader
        self._lanes = lanes
        self._is_quiet = is_quiet
        self._asked: dict[Lane, trio.Event] = {}
        self._plan: _Plan | None = None
        self._given = trio.Event()
        self._due_at: dict[Lane, float] = {}

    def between(self) -> None:
        """Nothing is under way: plan the next fold, if one is due and none is being made."""
        for lane in [lane for lane in self._asked if lane.epoch < 0]:
            self._asked.pop(lane).set()  # it was lost
        if self._plan is not None:
            return
        for lane in [*self._asked, *self._lanes()]:
            if lane.epoch >= 0 and not lane.turn.locked() and (lane in self._asked or self._is_due(lane)):
                self._plan = _plan(lane)
                self._given.set()
                return

    async def fold(self, lane: Lane) -> None:
        """Return once everything that the lane has now is folded, or it is no longer ours, or cannot be."""
        for _ in range(_ATTEMPTS):
            if lane.epoch < 0 or lane.checkpoint_seq >= lane.seq:
                return
            done = self._asked.setdefault(lane, trio.Event())
            if self._is_quiet():
                self.between()
            await done.wait()

    async def run(self) -> None:
        """Fold what is due, until cancelled."""
        while True:
            with self._clock.until(self._clock.monotonic() + _RETRY_SECONDS):
                await self._given.wait()
            self._given = trio.Event()
            if self._plan is None and self._is_quiet():
                self.between()
            if self._plan is not None:
                plan = self._plan
                async with plan.lane.turn:
                    await self._carry_out(plan)
                self._plan = None
                self._due_at.pop(plan.lane, None)
                if (done := self._asked.pop(plan.lane, None)) is not None:
                    done.set()

    def _is_due(self, lane: Lane) -> bool:
        if lane.checkpoint_seq >= lane.seq:
            return False
        due_at = self._due_at.setdefault(lane, self._clock.monotonic() + _SECONDS)
        is_much = lane.unfolded_bytes >= _BYTES or lane.unfolded_batches >= FOLDED_BATCHES
        return is_much or self._clock.monotonic() >= due_at

    async def _carry_out(self, plan: _Plan) -> None:
        lane = plan.lane
        while lane.epoch == plan.epoch:
            try:
                pieces = [piece async for piece in self._pieces(plan)]
                if await self._swapped(plan, pieces):
                    _folded(plan, pieces, self._reader)
                return
            except Moved:
                # Logs were trimmed or went meanwhile, and their entries with them: the next fold is planned anew.
                _log.warning("lane %d: what was to be folded is not where it was", lane.number)
                return
            except StatementFailed as failure:
                # Other lanes are not to wait for this one, whose rows may be damaged.
                _log.error("lane %d could not be folded, and is left as it is for now: %s", lane.number, failure)
                return
            except DatabaseError as failure:
                _log.warning("lane %d could not be folded, which is tried again: %s", lane.number, failure)
                await self._clock.sleep(_RETRY_SECONDS)

    async def _pieces(self, plan: _Plan):  # type: ignore[no-untyped-def]
        for key, groups in plan.moves.items():
            for places in groups:
                parts = await self._reader.read(plan.lane.number, key, places)
                yield NewPiece(key, _joined(places), b"".join(parts))

    async def _swapped(self, plan: _Plan, pieces: Sequence[NewPiece]) -> bool:
        """Have it so in the database; false when the lane is another's."""
        lane = plan.lane
        kept = {PieceKey(piece.log, piece.place.base_offset) for piece in pieces}
        replaced = {
            PieceKey(key, place.base_offset)
            for key, groups in plan.moves.items()
            for places in groups
            for place in places
            if place.seq == IN_PIECE
        }
        doomed = sorted((plan.doomed | replaced) - kept)
        removed = sorted(plan.removed)
        rows = await self._link.run(
            FOLD,
            lane.number,
            plan.epoch,
            plan.seq,
            plan.before,
            plan.state,
            [key.topic_id for key in removed],
            [key.partition for key in removed],
            [piece.log.topic_id for piece in doomed],
            [piece.log.partition for piece in doomed],
            [piece.base_offset for piece in doomed],
            [piece.log.topic_id for piece in pieces],
            [piece.log.partition for piece in pieces],
            [piece.place.base_offset for piece in pieces],
            [piece.place.end_offset for piece in pieces],
            [piece.place.position for piece in pieces],
            [piece.place.size for piece in pieces],
            [piece.place.max_timestamp for piece in pieces],
            [piece.data for piece in pieces],
        )
        if rows:
            return True
        # It is another's, or an earlier attempt was done though its answer did not come.
        [(epoch, checkpoint_seq)] = await self._link.run(_WHERE, lane.number)
        return bool(epoch == plan.epoch and checkpoint_seq == plan.seq)


def _plan(lane: Lane) -> _Plan:
    lane.unfolded_bytes = lane.unfolded_batches = 0
    moves = {key: groups for key, log in lane.logs.items() if (groups := _groups(log))}
    return _Plan(
        lane,
        lane.epoch,
        lane.seq,
        lane.checkpoint_seq,
        lane.checkpoint(),
        frozenset(lane.doomed),
        frozenset(lane.removed),
        moves,
    )


def _groups(log: LogState) -> list[list[Place]]:
    """The places that are to become one piece each."""
    count = 0
    while count < len(log.places) and log.places[-count - 1].seq != IN_PIECE:
        count += 1
    if not count:
        return []
    begins = {segment.base_offset for segment in log.segments}
    groups: list[list[Place]] = []
    size = 0
    for place in log.places[-count:]:
        if not groups or place.base_offset in begins or size + place.size > PIECE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(place)
        size += place.size
    first, size = groups[0], sum(place.size for place in groups[0])
    for place in reversed(log.places[:-count]):
        if first[0].base_offset in begins or place.size > size or place.size + size > PIECE_BYTES:
            break
        first.insert(0, place)
        size += place.size
    return groups


def _joined(places: Sequence[Place]) -> Place:
    first = places[0]
    return Place(
        first.base_offset,
        places[-1].end_offset,
        first.position,
        sum(place.size for place in places),
        max(place.max_timestamp for place in places),
    )


def _folded(plan: _Plan, pieces: Sequence[NewPiece], reader: Reader) -> None:
    """The database has it so: the lane's state follows."""
    lane = plan.lane
    lane.checkpoint_seq = plan.seq
    lane.doomed -= plan.doomed
    lane.removed -= plan.removed
    by_log: dict[LogKey, list[Place]] = {}
    for key, place, _ in pieces:
        by_log.setdefault(key, []).append(place)
        reader.forget(lane.number, key, place.base_offset)
    for key, places in by_log.items():
        log = lane.logs.get(key)
        if log is None:
            lane.doom(key, places)
            continue
        earlier = [place for place in log.places if place.end_offset <= places[0].base_offset]
        later = [place for place in log.places if place.seq > plan.seq]
        lane.doom(key, [place for place in places if place.end_offset <= log.start])
        log.places = [*earlier, *(place for place in places if place.end_offset > log.start), *later]
