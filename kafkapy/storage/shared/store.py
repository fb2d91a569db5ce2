"""The shared store: partition logs in PostgreSQL, for processes that come and go.

Opened by `open_shared`. Logs lie in lanes; whoever owns a lane leads its logs. What a lane is stands in `lane.py`, how
it is written in `committer.py`, how its bytes are brought in order in `folding.py`.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.errors import Error, KafkaError
from kafkapy.model import IsolationLevel, LogId
from kafkapy.records.batch import CorruptBatch
from kafkapy.storage.base import (
    ActiveProducer,
    Bounds,
    Catalogue,
    Checkpoint,
    CleanerSettings,
    EpochEnd,
    FoundTime,
    LiveBroker,
    LogDir,
    Pending,
    Reach,
    Read,
    Replica,
    Slice,
    Watch,
    Write,
)
from kafkapy.storage.shared import beside, reading
from kafkapy.storage.shared.cleaning import Cleaner
from kafkapy.storage.shared.committer import COMMIT, Committer
from kafkapy.storage.shared.database import Link, Statement
from kafkapy.storage.shared.entries import Start
from kafkapy.storage.shared.folding import Folder
from kafkapy.storage.shared.following import Followed
from kafkapy.storage.shared.lane import Lane, lane_of
from kafkapy.storage.shared.lanes import Lanes, key_of
from kafkapy.storage.shared.leases import LaneLeases
from kafkapy.storage.shared.log_state import LogState
from kafkapy.storage.shared.members import THERE, Members
from kafkapy.storage.shared.preparing import prepare
from kafkapy.storage.shared.problems import DatabaseError
from kafkapy.storage.shared.reader import Moved, Reader
from kafkapy.storage.shared.rendezvous import in_order
from kafkapy.storage.shared.sole_steward import SoleSteward
from kafkapy.storage.shared.steward import Steward
from kafkapy.storage.shared.tenure import Tenure
from kafkapy.storage.sole import SoleLeases
from kafkapy.storage.verification import Claim, Verification
from kafkapy.storage.watching import Watchers
from kafkapy.turns import Turns

_log = logging.getLogger(__name__)

SCHEMA: Final = "kafkapy"
TTL_MS: Final = 5_000
CACHE_BYTES: Final = 64 << 20

_CLOSE_SECONDS: Final = 5.0
"""A process that is to stop does not wait longer for a database that is gone; what it had is not acknowledged."""

_RETRY_SECONDS: Final = 0.5
_RETRIES: Final = 3
"""How often a read is tried that the database did not answer, or whose bytes were moved meanwhile."""


class SharedLogs:
    """The seam's `Logs` over a database. `statement` is how entries are committed: tests have a broken one, too.

    `alone`: this process has all lanes, always; else it shares them with others, once it is announced, and `followed`
    can be read here, whoever owns it.
    """

    def __init__(
        self,
        link: Callable[[], Link],
        clock: Clock,
        turns: Turns,
        ttl_ms: int,
        place: str,
        *,
        alone: bool,
        followed: LogId | None,
        statement: Statement = COMMIT,
    ) -> None:
        self.cluster_id = ""
        self._clock = clock
        self._turns = turns
        self._ttl_ms = ttl_ms
        self._place = place
        self._alone = alone
        self._followed_log = followed
        self._watchers = Watchers()
        self._links = commits, leases, reads, folds, follows, loads = [link() for _ in range(6)]
        self._control, self._reads, self._follows = leases, reads, follows
        self._reader = Reader(reads, CACHE_BYTES)
        self.brokers = Members(leases, clock, ttl_ms)
        self.tenure = Tenure(leases, self.brokers.incarnation, ttl_ms)
        self._committer = Committer(commits, clock, self.brokers.incarnation, self._committed, statement)
        self.lanes = Lanes(self.tenure, self._committer, self._reader, loads, self._watchers, followed)
        self.folder = Folder(folds, clock, self._reader, self.tenure.owned.values, lambda: self._committer.is_quiet)
        self._committer.between = self.folder.between
        self._cleaner = Cleaner(folds, clock, turns, self._reader, self.folder)
        self._steward: Steward | SoleSteward

    @property
    def leases(self) -> SoleLeases | LaneLeases:
        """What this process leads."""
        return self.lanes.leases

    # -- opening and closing

    async def open(self, schema: str, cluster_id: str, node_id: int | None) -> None:
        """Find or found the cluster, and have a node id there. Raises UnfitDatabase, DatabaseInUse, DatabaseError."""
        cluster = await prepare(self._control, schema, cluster_id)
        lanes = self.lanes
        self.cluster_id, lanes.count = cluster.id, cluster.lanes
        node_id = await self.brokers.claim(node_id, alone=self._alone)
        if self._alone:
            lanes.leases = SoleLeases(node_id)
            self._steward = steward = SoleSteward(lanes, self._clock, self._ttl_ms)
            await steward.take_all()
            return
        lanes.leases = leases = LaneLeases(node_id, self._clock, lanes.by_log.get, lanes.epoch_of)
        log = self._followed_log
        number = 0 if log is None else lane_of(key_of(log), cluster.lanes)
        lanes.followed = followed = Followed(
            self._follows, number, None if log is None else key_of(log), self._clock, lanes.followed_grew
        )
        await followed.poll()
        self._steward = Steward(self.brokers, lanes, leases, followed, self._clock, self._ttl_ms)

    async def run(self) -> None:
        """Do what is to be done in the background, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._committer.run)
            nursery.start_soon(self.folder.run)
            nursery.start_soon(self._steward.run)

    async def announce(self, broker: LiveBroker) -> None:
        """This process is reached there, and takes its share of the lanes. A database that is gone is waited for."""
        while True:
            try:
                await self.brokers.tell(THERE, broker)
            except DatabaseError as failure:
                _log.warning("this broker could not be announced, which is tried again: %s", failure)
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                break
        self._steward.look_again()

    async def settled(self) -> None:
        """Return once every lane is with the process that is to have it."""
        await self._steward.settled()

    async def leave(self) -> None:
        """Hand the lanes over to those who are there, while these can still be asked for."""
        try:
            await self._steward.leave()
        except DatabaseError as failure:
            _log.warning("the lanes could not be handed over, the lease runs out by itself: %s", failure)

    async def refresh(self) -> None:
        """Have what is known of the followed log be what it has now; a database that is gone is waited for."""
        while (log := self._followed_log) is not None and (followed := self.lanes.only_followed(log)) is not None:
            try:
                await followed.poll()
                return
            except DatabaseError as failure:
                _log.warning("how far the log has come cannot be seen, which is tried again: %s", failure)
                await self._clock.sleep(_RETRY_SECONDS)

    def read_again(self) -> None:
        """Have the bytes of the followed log come from the database anew: they may have been mended there."""
        if self.lanes.followed is not None:
            self._reader.forget_lane(self.lanes.followed.lane.number)

    def in_turn(self, log: LogId, node_ids: Iterable[int]) -> Sequence[int]:
        """These in the order in which they come to lead a log."""
        return in_order(self.lanes.number_of(log), tuple(node_ids))

    async def close(self) -> None:
        """Commit what is under way, and let the lanes go: whoever comes next need not wait."""
        try:
            with self._clock.until(self._clock.monotonic() + _CLOSE_SECONDS):
                await self._committer.finished(list(self.tenure.owned.values()))
                await self.tenure.release(list(self.tenure.owned))
                await self.brokers.withdraw()
                return
            _log.warning("the database does not answer: the lanes are not handed over, the lease runs out")
        except DatabaseError as failure:
            _log.warning("the lanes could not be handed over, the lease runs out by itself: %s", failure)

    def end(self) -> None:
        """End the connections."""
        for link in self._links:
            link.close()

    def _committed(self, lane: Lane, data: bytes, touched: Sequence[LogId]) -> None:
        self.tenure.committed(lane)
        if data:
            self._reader.keep(lane.number, lane.seq, data)
        for log in touched:
            self._watchers.notify(log)

    # -- what exists

    def adopt(self, catalogue: Catalogue) -> None:
        self._catalogue = self._committer.catalogue = self.lanes.catalogue = catalogue

    async def catalogue_changed(self, logs: Iterable[LogId] | None) -> None:
        self.lanes.changed(logs)

    def epoch_origin(self, log: LogId) -> int:
        return self.lanes.epoch_origin(log)

    def _there(self, log: LogId) -> LogState:
        state = self.lanes.state(log)
        if isinstance(state, Error):
            raise KafkaError(state)
        return state

    def bounds(self, log: LogId) -> Bounds | Error:
        state = self.lanes.state(log)
        return state if isinstance(state, Error) else state.bounds()

    def reach(self, log: LogId, isolation: IsolationLevel) -> Reach | Error:
        state = self.lanes.state(log)
        return state if isinstance(state, Error) else state.reach(isolation)

    # -- writing

    def append(self, writes: Sequence[Write]) -> Pending:
        return self._committer.append([(write, self.lanes.lane(write.log)) for write in writes])

    async def trim(self, log: LogId, offset: int) -> int:
        lane = self.lanes.led(log)
        state = lane.log(key_of(log))
        if min(offset, state.seen.end_offset) > state.start:
            change = Start(key_of(log), min(offset, state.seen.end_offset))
            [outcome] = await self._committer.change(lane, log, change).wait()
            if outcome.error:
                raise KafkaError(outcome.error)
        return state.start

    async def apply_retention(self, now_ms: int) -> None:
        begun = []
        for log in list(self.lanes.by_log):
            lane, settings = self.lanes.lane(log), self._catalogue.settings(log)
            if settings is not None and not isinstance(lane, Error):
                offset = lane.log(key_of(log)).expired_to(settings, now_ms)
                if offset is not None:
                    _log.info("%s: what lies before offset %d is kept no longer", log, offset)
                    begun.append(self._committer.change(lane, log, Start(key_of(log), offset)))
        for pending in begun:
            await pending.wait()

    async def clean(self, settings: CleanerSettings) -> bool:
        lanes = {log: lane for log in self.lanes.by_log if not isinstance(lane := self.lanes.lane(log), Error)}
        return await self._cleaner.clean_dirtiest(lanes, self._catalogue, settings)

    # -- reading

    async def read(self, reads: Sequence[Read], max_bytes: int) -> list[Slice]:
        slices = []
        left, found = max_bytes, False
        for read in reads:
            piece = await self._read(read, left, whole_first=not found)
            found = found or len(piece.records) > 0
            left = max(left - len(piece.records), 0)
            slices.append(piece)
        return slices

    async def _read(self, read: Read, left: int, *, whole_first: bool) -> Slice:
        has_moved = False
        for attempt in range(_RETRIES):
            try:
                if has_moved and (followed := self.lanes.only_followed(read.log)) is not None:
                    await followed.reload()
                lane = self.lanes.readable(read.log)
                if isinstance(lane, Error):
                    return Slice(error=lane)
                return await reading.read(self._reader, lane, key_of(read.log), read, left, whole_first=whole_first)
            except CorruptBatch as damage:
                _log.error("%s: damaged near offset %d: %s", read.log, read.offset, damage)
                return Slice(error=Error.CORRUPT_MESSAGE)
            except Moved:
                has_moved = True
            except DatabaseError as failure:
                _log.warning("%s: a read failed: %s", read.log, failure)
                if attempt + 1 < _RETRIES:
                    await self._clock.sleep(_RETRY_SECONDS * attempt)
        return Slice(error=Error.KAFKA_STORAGE_ERROR)

    async def find_time(self, log: LogId, timestamp: int) -> FoundTime | None:
        return await self._looked_up(log, timestamp)

    async def find_max_time(self, log: LogId) -> FoundTime | None:
        return await self._looked_up(log, None)

    async def _looked_up(self, log: LogId, timestamp: int | None) -> FoundTime | None:
        for _ in range(_RETRIES):
            lane = self.lanes.led(log)
            try:
                if timestamp is None:
                    return await reading.find_max_time(self._reader, lane, key_of(log), self._turns)
                return await reading.find_time(self._reader, lane, key_of(log), timestamp, self._turns)
            except CorruptBatch as damage:
                raise KafkaError(Error.CORRUPT_MESSAGE) from damage
            except Moved:
                continue
            except DatabaseError as failure:
                _log.warning("%s: a look-up by time failed: %s", log, failure)
        raise KafkaError(Error.KAFKA_STORAGE_ERROR)

    async def epoch_end(self, log: LogId, leader_epoch: int) -> EpochEnd | None:
        found = self._there(log).epoch_end(leader_epoch)
        return None if found is None else EpochEnd(*found)

    def size_bytes(self, log: LogId) -> int:
        state = self.lanes.state(log)
        return 0 if isinstance(state, Error) else state.size_bytes

    def log_dirs(self) -> list[LogDir]:
        return [LogDir(self._place, replicas=[Replica(log, self.size_bytes(log)) for log in self.lanes.all_led()])]

    def alter_log_dir(self, log: LogId, path: str) -> Error:
        if path != self._place:
            return Error.LOG_DIR_NOT_FOUND
        state = self.lanes.state(log)
        return state if isinstance(state, Error) else Error.NONE

    # -- what is kept beside a log

    async def save_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        await beside.save(self._reads, self.lanes.led(log), key_of(log), checkpoint)
        state = self.lanes.state(log)
        if not isinstance(state, Error):  # it may have been lost meanwhile
            state.checkpointed()

    async def load_checkpoints(self, log: LogId) -> list[Checkpoint]:
        found = await beside.load(self._reads, key_of(log))
        if (followed := self.lanes.only_followed(log)) is not None:
            try:
                await followed.poll()  # they may be of what has come since
            except DatabaseError as failure:
                raise KafkaError(Error.KAFKA_STORAGE_ERROR, str(failure)) from failure
        cleaned_to = self._there(log).cleaned_to
        return [checkpoint for checkpoint in found if checkpoint.offset >= cleaned_to]

    async def drop_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        if self.lanes.only_followed(log) is not None:
            return  # whoever owns it sees to that
        await beside.drop(self._reads, self.lanes.led(log), key_of(log), checkpoint)

    # -- producers

    def begin_verification(self, log: LogId, claim: Claim, now_ms: int) -> Verification | Error:
        state = self.lanes.state(log)
        return state if isinstance(state, Error) else state.head.begin_verification(claim, now_ms)

    def producers(self, log: LogId) -> Sequence[ActiveProducer] | Error:
        state = self.lanes.state(log)
        return state if isinstance(state, Error) else state.head.active_producers()

    async def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        for lane in list(self.tenure.owned.values()):
            for state in list(lane.logs.values()):
                state.head.expire(now_ms, expiration_ms)
            await trio.lowlevel.checkpoint()

    def look_again(self, logs: Sequence[LogId]) -> None:
        for log in logs:
            self._watchers.notify(log)

    def watch(self, logs: Sequence[LogId], wake: Callable[[LogId], None]) -> Watch:
        return self._watchers.watch(logs, wake)


@asynccontextmanager
async def open_shared(
    url: str,
    *,
    clock: Clock,
    node_id: int | None = 1,
    cluster_id: str,
    schema: str = SCHEMA,
    ttl_ms: int = TTL_MS,
    turns: Turns | None = None,
    alone: bool = True,
    followed: LogId | None = None,
    statement: Statement = COMMIT,
) -> AsyncIterator[SharedLogs]:
    """The store in this database, for the length of the block; the cluster's id is that which it was founded with.

    Without a `node_id` the process has the first one that is free. `ttl_ms`: how long its lease lasts. See `SharedLogs`
    for `alone` and `followed`: who is not alone has no lanes before it is announced.
    Raises UnfitDatabase, DatabaseInUse, DatabaseError.
    """
    place = "postgresql://" + url.partition("://")[2].rpartition("@")[2].partition("?")[0]
    logs = SharedLogs(
        lambda: Link(url, schema, clock),
        clock,
        turns or Turns(),
        ttl_ms,
        place,
        alone=alone,
        followed=followed,
        statement=statement,
    )
    try:
        await logs.open(schema, cluster_id, node_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logs.run)
            yield logs
            await logs.close()
            nursery.cancel_scope.cancel()
    finally:
        logs.end()
