"""Commits what is written to this process's lanes: one statement for all that came while the last was under way.

Batches are judged in memory, in the order in which they came, when their statement is made; nothing of a lane is judged
before what was sent of it earlier is committed. That the memory was the lane's state is proven by the statement itself:
it moves a lane's head from the entry before to this one, if the epoch is still ours, and inserts the entry for heads
that moved. A lane whose head does not move is another's now.

Invariants
 1. One statement is under way at most.
 2. An append is acknowledged, or refused for what its log holds, after an entry came back from the statement, or was
    found in the database: an entry without a change where there is nothing else to prove that the memory is true.
 3. No clock decides whether something is written, and no missing row does: only the lane's head.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.errors import Error
from kafkapy.model import LogId
from kafkapy.records.batch import STAMP_SIZE, BatchHeader, stamp
from kafkapy.records.control import ControlHeader
from kafkapy.storage.base import Catalogue, LogSettings, Outcome, Pending, Write
from kafkapy.storage.judging import judged
from kafkapy.storage.sequencing import Accepted
from kafkapy.storage.shared.database import BYTEAS, INT4S, INT8S, TEXT, Link, Statement
from kafkapy.storage.shared.entries import Change, Chunk, Entry, LogKey, Removed, Start, encode_entry
from kafkapy.storage.shared.lane import Lane
from kafkapy.storage.shared.problems import DatabaseError, OutcomeUnknown, StatementFailed

_log = logging.getLogger(__name__)

COMMIT: Final = Statement(
    """
    with w as (select * from unnest($1::int[], $2::bigint[], $3::int[], $4::bytea[], $5::bytea[])
               as w(lane, seq, epoch, index, data) order by lane),
         h as (update lanes l set seq = w.seq from w where l.lane = w.lane and l.epoch = w.epoch and l.seq = w.seq - 1
               returning l.lane, w.seq, w.epoch, w.index, w.data)
    insert into commits (lane, seq, epoch, writer, index, data)
    select lane, seq, epoch, $6, index, data from h returning lane
    """,
    (INT4S, INT8S, INT4S, BYTEAS, BYTEAS, TEXT),
)

_ASK: Final = Statement(
    """
    select c.lane from unnest($1::int[], $2::bigint[], $3::int[]) as w(lane, seq, epoch)
    join commits c on c.lane = w.lane and c.seq = w.seq and c.epoch = w.epoch where c.writer = $4
    """,
    (INT4S, INT8S, INT4S, TEXT),
)

_BEYOND: Final = Statement(
    """
    select c.lane from unnest($1::int[], $2::bigint[]) as w(lane, seq)
    join lanes l on l.lane = w.lane and l.seq < w.seq join commits c on c.lane = w.lane and c.seq = w.seq
    """,
    (INT4S, INT8S),
)

_FLUSH_BYTES: Final = 1 << 20
"""A statement takes no more once it has so much: who writes little beside those who write much waits for this long."""

_WAITING_BYTES: Final = 64 << 20
"""What may wait to be sent: beyond, producers are told to come again."""

_RETRY_SECONDS: Final = 0.1
_LONGEST_RETRY_SECONDS: Final = 2.0

_TAKEN_TWICE: Final = "23505"

_LOST: Final = Outcome(error=Error.NOT_LEADER_OR_FOLLOWER, message="another process has the log now")

_DEFAULTS: Final = LogSettings()


class _Group:
    """What one `append` brought, and what became of it so far."""

    __slots__ = ("left", "outcomes", "pending")

    def __init__(self, count: int) -> None:
        self.pending = Pending()
        self.outcomes: list[Outcome] = [_LOST] * count
        self.left = count

    def set(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self.left -= 1
        if not self.left:
            self.pending.resolve(self.outcomes)


class _Item:
    """One write, or one change of where a log begins, or that a log is no more."""

    __slots__ = ("body", "change", "group", "index", "key", "lane", "log", "write")

    def __init__(
        self,
        lane: Lane,
        log: LogId,
        group: _Group,
        index: int,
        *,
        write: Write | None = None,
        body: bytes = b"",
        change: Start | Removed | None = None,
    ) -> None:
        self.lane = lane
        self.log = log
        self.key = LogKey(log.topic_id, log.partition)
        self.group = group
        self.index = index
        self.write = write
        self.body = body
        self.change = change
        lane.waiting += 1

    def answer(self, outcome: Outcome) -> None:
        self.lane.waiting -= 1
        self.group.set(self.index, outcome)


class _Draft:
    """The next entry of a lane."""

    __slots__ = ("changes", "index", "items", "lane", "parts", "seq", "size")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.seq = lane.seq + 1
        self.changes: list[Change] = []
        self.parts: list[bytes] = []
        self.size = 0
        self.items: list[tuple[_Item, Outcome]] = []
        self.index = b""


class Committer:
    """The process's writer. Told whose lanes are whose by `committed`, `lost`; `epoch_of` is `Lanes`'."""

    catalogue: Catalogue
    lost: Callable[[Lane], None]
    epoch_of: Callable[[LogId, int], int]

    def __init__(
        self,
        link: Link,
        clock: Clock,
        writer: str,
        committed: Callable[[Lane, bytes, Sequence[LogId]], None],
        statement: Statement = COMMIT,
    ) -> None:
        self._link = link
        self._clock = clock
        self._writer = writer
        self._committed = committed
        self._statement = statement
        self._queue: deque[_Item] = deque()
        self._waiting_bytes = 0
        self._wake = trio.Event()
        self.is_quiet = True
        """Nothing is under way: every lane's state is that of its committed entries."""
        self._turned = trio.Event()
        self.between: Callable[[], None] = _nothing
        """Called where nothing is under way."""

    def append(self, writes: Sequence[tuple[Write, Lane | Error]]) -> Pending:
        """Take these writes, each of a log of that lane, or refused with that error."""
        if not writes:
            return Pending([])
        group = _Group(len(writes))
        for index, (write, lane) in enumerate(writes):
            if isinstance(lane, Error):
                group.set(index, Outcome(error=lane))
            elif self._waiting_bytes > _WAITING_BYTES:
                group.set(index, Outcome(error=Error.REQUEST_TIMED_OUT, message="the database is behind"))
            else:
                body = bytes(write.data)
                self._waiting_bytes += len(body)
                self._queue.append(_Item(lane, write.log, group, index, write=write, body=body))
        self._wake.set()
        return group.pending

    def change(self, lane: Lane, log: LogId, change: Start | Removed) -> Pending:
        """Have a log begin elsewhere, or be no more."""
        group = _Group(1)
        self._queue.append(_Item(lane, log, group, 0, change=change))
        self._wake.set()
        return group.pending

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            if not self._queue:
                self._wake = trio.Event()
                await self._wake.wait()
            self.between()
            drafts = self._build()
            if drafts:
                self.is_quiet = False
                done = await self._commit(drafts)
                self.is_quiet = True
                self._finish(drafts, done)
            self._turned.set()
            self._turned = trio.Event()

    async def finished(self, lanes: Collection[Lane]) -> None:
        """Return once nothing of these lanes waits, or is under way."""
        while any(lane.waiting for lane in lanes):
            await self._turned.wait()

    # -- making an entry

    def _build(self) -> list[_Draft]:
        drafts: dict[int, _Draft] = {}
        now_ms, size, queue = self._clock.now_ms(), 0, self._queue
        while queue and size < _FLUSH_BYTES:
            item = queue.popleft()
            self._waiting_bytes -= len(item.body)
            lane = item.lane
            if lane.epoch < 0:
                item.answer(_LOST)
                continue
            draft = drafts.get(lane.number) or _Draft(lane)
            outcome = self._judge(item, draft, now_ms)
            if outcome.error is Error.NOT_LEADER_OR_FOLLOWER:
                item.answer(outcome)
                continue
            # A refusal, too, waits for the statement: it came from memory, which may be that of long ago.
            drafts[lane.number] = draft
            draft.items.append((item, outcome))
            size += len(item.body)
        for draft in drafts.values():
            draft.index = encode_entry(Entry(now_ms, draft.changes))
            draft.lane.seq = draft.seq
        return list(drafts.values())

    def _judge(self, item: _Item, draft: _Draft, now_ms: int) -> Outcome:
        lane, key = item.lane, item.key
        if item.change is not None:
            return _change(item.change, draft)
        write = item.write
        assert write is not None
        log = lane.log(key)
        leader_epoch = self.epoch_of(item.log, lane.epoch)
        if log.epochs:
            leader_epoch = max(leader_epoch, log.epochs[-1][0])
        verdict = judged(write, log.head, leader_epoch=leader_epoch, log_start_offset=log.start)
        if isinstance(verdict, Outcome):
            return verdict
        headers = _stamped(write, verdict, item.body, draft.parts)
        settings = self.catalogue.settings(item.log) or _DEFAULTS
        begins = log.needs_segment(headers, len(item.body), verdict.end_offset, settings)
        log.take(headers, verdict)
        log.add(headers, begins_segment=begins, seq=draft.seq, at=draft.size, size=len(item.body), now_ms=now_ms)
        draft.changes.append(Chunk(key, begins, headers))
        draft.size += len(item.body)
        lane.unfolded_batches += len(headers)
        return Outcome(verdict.base_offset, verdict.end_offset, log.start)

    # -- having it committed

    async def _commit(self, drafts: Sequence[_Draft]) -> set[int]:
        """Which lanes' entries are committed, which is certain; the others' never will be."""
        done: set[int] = set()
        left, sent, is_uncertain, is_beyond, pause = list(drafts), False, False, False, _RETRY_SECONDS
        while True:
            try:
                if is_beyond:
                    # Lanes with an entry beyond their head are not what they are taken for here, others are.
                    left = await self._without_those_beyond(left)
                    is_beyond = False
                if is_uncertain:
                    done |= await self._asked(left)
                    left = [draft for draft in left if draft.lane.number not in done]
                if not left or sent:
                    return done
                done |= await self._sent(left)
                sent = True
                left = [draft for draft in left if draft.lane.number not in done]
                if not left or not is_uncertain:
                    return done
                # What was sent before may have been slow rather than lost, and be what we were refused for.
            except OutcomeUnknown as lost:
                is_uncertain, sent = True, False
                _log.warning("the database was lost while it committed, what became of it is asked: %s", lost)
            except StatementFailed as failure:
                _log.error("a commit failed, and is tried again: %s", failure)
                if failure.state == _TAKEN_TWICE:
                    is_beyond = True
            except DatabaseError as failure:
                _log.warning("the database is not to be had, writes wait: %s", failure)
            else:
                continue
            await self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)

    async def _sent(self, drafts: Sequence[_Draft]) -> set[int]:
        rows = await self._link.run(
            self._statement,
            [draft.lane.number for draft in drafts],
            [draft.seq for draft in drafts],
            [draft.lane.epoch for draft in drafts],
            [draft.index for draft in drafts],
            [b"".join(draft.parts) for draft in drafts],
            self._writer,
        )
        return {lane for (lane,) in rows}

    async def _asked(self, drafts: Sequence[_Draft]) -> set[int]:
        rows = await self._link.run(
            _ASK,
            [draft.lane.number for draft in drafts],
            [draft.seq for draft in drafts],
            [draft.lane.epoch for draft in drafts],
            self._writer,
        )
        return {lane for (lane,) in rows}

    async def _without_those_beyond(self, drafts: Sequence[_Draft]) -> list[_Draft]:
        numbers, seqs = [draft.lane.number for draft in drafts], [draft.seq for draft in drafts]
        beyond = {lane for (lane,) in await self._link.run(_BEYOND, numbers, seqs)}
        return [draft for draft in drafts if draft.lane.number not in beyond]

    def _finish(self, drafts: Sequence[_Draft], done: set[int]) -> None:
        for draft in drafts:
            lane = draft.lane
            if lane.number not in done:
                self.lost(lane)
                for item, _ in draft.items:
                    item.answer(_LOST)
                continue
            lane.unfolded_bytes += draft.size
            touched = {item.log: item.key for item, _ in draft.items}
            for key in touched.values():
                if key in lane.logs:
                    lane.logs[key].see()
            self._committed(lane, b"".join(draft.parts), list(touched))
            for item, outcome in draft.items:
                item.answer(outcome)


def _nothing() -> None:
    return None


def _change(change: Start | Removed, draft: _Draft) -> Outcome:
    lane = draft.lane
    if isinstance(change, Start):
        log = lane.log(change.log)
        if change.offset > log.start:
            lane.begin_log_at(change.log, change.offset)
            draft.changes.append(Start(change.log, log.start))
        return Outcome(log_start_offset=log.start)
    if change.log in lane.logs:
        lane.remove(change.log)
        draft.changes.append(change)
    return Outcome()


def _stamped(write: Write, accepted: Accepted, body: bytes, parts: list[bytes]) -> list[BatchHeader]:
    """The headers with their offsets; the bytes that have them, too, join `parts`."""
    offset, position, headers = accepted.base_offset, 0, []
    for header in write.headers:
        with_offset = header._replace(base_offset=offset, leader_epoch=write.leader_epoch)
        headers.append(
            ControlHeader.of(with_offset, header.marker) if isinstance(header, ControlHeader) else with_offset
        )
        parts.append(stamp(offset, header.batch_length, write.leader_epoch))
        parts.append(body[position + STAMP_SIZE : position + header.size_bytes])
        offset += header.last_offset_delta + 1
        position += header.size_bytes
    return headers
