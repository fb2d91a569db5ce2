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
from kafkapy.storage.shared.entries import LogKey, Removed, Start
from kafkapy.storage.shared.folding import Folder
from kafkapy.storage.shared.lane import Lane, lane_of
from kafkapy.storage.shared.loading import load_lanes
from kafkapy.storage.shared.log_state import LogState
from kafkapy.storage.shared.problems import DatabaseError, DatabaseInUse
from kafkapy.storage.shared.reader import Moved, Reader
from kafkapy.storage.shared.tenure import Tenure, new_incarnation, prepare
from kafkapy.storage.sole import SoleLeases
from kafkapy.storage.verification import Claim, Verification
from kafkapy.storage.watching import Watchers
from kafkapy.turns import Turns

_log = logging.getLogger(__name__)

SCHEMA: Final = "kafkapy"
TTL_MS: Final = 5_000
CACHE_BYTES: Final = 64 << 20

_ONLY_SEGMENT: Final = 0
"""For readers: what lies in rows has no files."""

_CLOSE_SECONDS: Final = 5.0
"""A process that is to stop does not wait longer for a database that is gone; what it had is not acknowledged."""

_RETRY_SECONDS: Final = 0.5
_RETRIES: Final = 3
"""How often a read is tried that the database did not answer, or whose bytes were moved meanwhile."""


class SharedLogs:
    """The seam's `Logs` over a database. `statement` is how entries are committed: tests have a broken one, too."""

    def __init__(
        self,
        link: Callable[[], Link],
        clock: Clock,
        turns: Turns,
        node_id: int,
        ttl_ms: int,
        place: str,
        *,
        alone: bool,
        statement: Statement = COMMIT,
    ) -> None:
        self.cluster_id = ""
        self.leases = SoleLeases(node_id)
        self._clock = clock
        self._turns = turns
        self._ttl_ms = ttl_ms
        self._place = place
        self._alone = alone
        self._watchers = Watchers()
        self._links = commits, leases, reads, folds = link(), link(), link(), link()
        self._reads = reads
        self._reader = Reader(reads, CACHE_BYTES)
        self.tenure = Tenure(leases, clock, new_incarnation(), node_id, ttl_ms, self._lose)
        self._committer = Committer(commits, clock, self.tenure.incarnation, self._committed, self._lose, statement)
        self.folder = Folder(folds, clock, self._reader, self.tenure.owned.values, lambda: self._committer.is_quiet)
        self._committer.between = self.folder.between
        self._cleaner = Cleaner(folds, clock, turns, self._reader, self.folder)
        self._lane_count = 0
        self._logs: dict[LogId, int] = {}
        self._lost_lanes: set[int] = set()

    # -- opening and closing

    async def open(self, schema: str, cluster_id: str) -> None:
        """Find the cluster, or found it, and take its lanes. Raises UnfitDatabase, DatabaseInUse, DatabaseError."""
        cluster = await prepare(self._links[1], schema, cluster_id)
        self.cluster_id, self._lane_count = cluster.id, cluster.lanes
        lanes = await self.tenure.take_all(cluster.lanes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_leases)  # to load them may take longer than a lease lasts
            await load_lanes(self._reads, lanes)
            nursery.cancel_scope.cancel()

    async def run(self) -> None:
        """Do what is to be done in the background, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._committer.run)
            nursery.start_soon(self.folder.run)
            nursery.start_soon(self._keep_leases)

    async def close(self) -> None:
        """Commit what is under way, and let the lanes go: whoever comes next need not wait."""
        try:
            with self._clock.until(self._clock.monotonic() + _CLOSE_SECONDS):
                await self._committer.drained()
                await self.tenure.release()
                return
            _log.warning("the database does not answer: the lanes are not handed over, their leases run out")
        except DatabaseError as failure:
            _log.warning("the lanes could not be handed over, their leases run out by themselves: %s", failure)

    def end(self) -> None:
        """End the connections."""
        for link in self._links:
            link.close()

    async def _keep_leases(self) -> None:
        while True:
            await self._clock.sleep(self._ttl_ms / 3000)
            try:
                await self.tenure.renew()
                if self._lost_lanes and self._alone:
                    raise DatabaseInUse("another process has taken the cluster over: this one stood still for too long")
                if self._lost_lanes:
                    await self._take_again()
            except DatabaseError as failure:
                _log.warning("the leases could not be renewed, which is tried again: %s", failure)

    async def _take_again(self) -> None:
        lanes = await self.tenure.take(sorted(self._lost_lanes))
        if not lanes:
            return
        try:
            await load_lanes(self._reads, lanes)
        except DatabaseError:
            for lane in lanes:
                lane.epoch = -1
            raise
        numbers = {lane.number for lane in lanes}
        self._lost_lanes -= numbers
        await self._made([log for log, number in self._logs.items() if number in numbers])

    def _lose(self, lane: Lane) -> None:
        """Another process has it."""
        if lane.epoch < 0:
            return
        _log.warning("lane %d is another process's now", lane.number)
        lane.epoch = -1
        self._lost_lanes.add(lane.number)
        self._reader.forget_lane(lane.number)
        logs = [log for log, number in self._logs.items() if number == lane.number]
        self.leases.lose(logs)
        self.look_again(logs)

    def _committed(self, lane: Lane, data: bytes, touched: Sequence[LogId]) -> None:
        self.tenure.committed(lane)
        if data:
            self._reader.keep(lane.number, lane.seq, data)
        for log in touched:
            self._watchers.notify(log)

    # -- what exists

    def adopt(self, catalogue: Catalogue) -> None:
        self._catalogue = self._committer.catalogue = catalogue

    async def catalogue_changed(self, logs: Iterable[LogId] | None) -> None:
        catalogue = self._catalogue
        named = list(dict.fromkeys([*catalogue.logs(), *self._logs] if logs is None else logs))
        await self._made([log for log in named if catalogue.settings(log) is not None])
        for log in named:
            if catalogue.settings(log) is None and catalogue.is_gone(log):
                self._remove(log)

    async def _made(self, logs: Sequence[LogId]) -> None:
        epochs: dict[LogId, int] = {}
        for log in logs:
            number = self._logs[log] = lane_of(_key(log), self._lane_count)
            lane = self.tenure.owned.get(number)
            if lane is not None and lane.epoch >= 0:
                state = lane.log(_key(log))
                epochs[log] = max(lane.epoch, state.epochs[-1][0] if state.epochs else 0)
        self.leases.gain(epochs)

    def _remove(self, log: LogId) -> None:
        number = self._logs.pop(log, None)
        if number is None:
            number = lane_of(_key(log), self._lane_count)
        lane = self.tenure.owned.get(number)
        if lane is not None and lane.epoch >= 0 and _key(log) in lane.logs:
            self._committer.change(lane, log, Removed(_key(log)))
        self.leases.lose([log])
        self._watchers.notify(log)

    def _lane(self, log: LogId) -> Lane | Error:
        number = self._logs.get(log)
        if number is None:
            return Error.UNKNOWN_TOPIC_OR_PARTITION
        lane = self.tenure.owned[number]
        return lane if lane.epoch >= 0 else Error.NOT_LEADER_OR_FOLLOWER

    def _led(self, log: LogId) -> Lane:
        lane = self._lane(log)
        if isinstance(lane, Error):
            raise KafkaError(lane)
        return lane

    def _state(self, log: LogId) -> LogState | Error:
        lane = self._lane(log)
        return lane if isinstance(lane, Error) else lane.log(_key(log))

    def _there(self, log: LogId) -> LogState:
        state = self._state(log)
        if isinstance(state, Error):
            raise KafkaError(state)
        return state

    def bounds(self, log: LogId) -> Bounds | Error:
        state = self._state(log)
        return state if isinstance(state, Error) else state.bounds()

    def reach(self, log: LogId, isolation: IsolationLevel) -> Reach | Error:
        state = self._state(log)
        if isinstance(state, Error):
            return state
        end, stable, end_position, stable_position = state.seen
        if isolation is IsolationLevel.READ_COMMITTED and stable >= state.start:
            return Reach(state.start, stable, _ONLY_SEGMENT, stable_position)
        limit = state.start if isolation is IsolationLevel.READ_COMMITTED else end
        return Reach(state.start, limit, _ONLY_SEGMENT, end_position)

    # -- writing

    def append(self, writes: Sequence[Write]) -> Pending:
        return self._committer.append([(write, self._lane(write.log)) for write in writes])

    async def trim(self, log: LogId, offset: int) -> int:
        lane = self._led(log)
        state = lane.log(_key(log))
        if min(offset, state.seen.end_offset) > state.start:
            change = Start(_key(log), min(offset, state.seen.end_offset))
            [outcome] = await self._committer.change(lane, log, change).wait()
            if outcome.error:
                raise KafkaError(outcome.error)
        return state.start

    async def apply_retention(self, now_ms: int) -> None:
        begun = []
        for log in list(self._logs):
            lane, settings = self._lane(log), self._catalogue.settings(log)
            if settings is not None and not isinstance(lane, Error):
                offset = lane.log(_key(log)).expired_to(settings, now_ms)
                if offset is not None:
                    _log.info("%s: what lies before offset %d is kept no longer", log, offset)
                    begun.append(self._committer.change(lane, log, Start(_key(log), offset)))
        for pending in begun:
            await pending.wait()

    async def clean(self, settings: CleanerSettings) -> bool:
        lanes = {log: lane for log in self._logs if not isinstance(lane := self._lane(log), Error)}
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
        for attempt in range(_RETRIES):
            lane = self._lane(read.log)
            if isinstance(lane, Error):
                return Slice(error=lane)
            try:
                return await reading.read(self._reader, lane, _key(read.log), read, left, whole_first=whole_first)
            except CorruptBatch as damage:
                _log.error("%s: damaged near offset %d: %s", read.log, read.offset, damage)
                return Slice(error=Error.CORRUPT_MESSAGE)
            except Moved:
                continue
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
            lane = self._led(log)
            try:
                if timestamp is None:
                    return await reading.find_max_time(self._reader, lane, _key(log), self._turns)
                return await reading.find_time(self._reader, lane, _key(log), timestamp, self._turns)
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
        state = self._state(log)
        return 0 if isinstance(state, Error) else state.size_bytes

    def log_dirs(self) -> list[LogDir]:
        return [LogDir(self._place, replicas=[Replica(log, self.size_bytes(log)) for log in self._logs])]

    def alter_log_dir(self, log: LogId, path: str) -> Error:
        if path != self._place:
            return Error.LOG_DIR_NOT_FOUND
        state = self._state(log)
        return state if isinstance(state, Error) else Error.NONE

    # -- what is kept beside a log

    async def save_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        await beside.save(self._reads, self._led(log), _key(log), checkpoint)

    async def load_checkpoints(self, log: LogId) -> list[Checkpoint]:
        found = await beside.load(self._reads, _key(log))
        cleaned_to = self._there(log).cleaned_to
        return [checkpoint for checkpoint in found if checkpoint.offset >= cleaned_to]

    async def drop_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        await beside.drop(self._reads, self._led(log), _key(log), checkpoint)

    # -- producers

    def begin_verification(self, log: LogId, claim: Claim, now_ms: int) -> Verification | Error:
        state = self._state(log)
        return state if isinstance(state, Error) else state.head.begin_verification(claim, now_ms)

    def producers(self, log: LogId) -> Sequence[ActiveProducer] | Error:
        state = self._state(log)
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


def _key(log: LogId) -> LogKey:
    return LogKey(log.topic_id, log.partition)


@asynccontextmanager
async def open_shared(
    url: str,
    *,
    clock: Clock,
    node_id: int = 1,
    cluster_id: str,
    schema: str = SCHEMA,
    ttl_ms: int = TTL_MS,
    turns: Turns | None = None,
    alone: bool = True,
    statement: Statement = COMMIT,
) -> AsyncIterator[SharedLogs]:
    """The store in this database, for the length of the block; the cluster's id is that which it was founded with.

    `alone`: a process whose lanes were taken over has nothing to do beside the other one, and ends.
    Raises UnfitDatabase, DatabaseInUse, DatabaseError.
    """
    place = "postgresql://" + url.partition("://")[2].rpartition("@")[2].partition("?")[0]
    logs = SharedLogs(
        lambda: Link(url, schema, clock),
        clock,
        turns or Turns(),
        node_id,
        ttl_ms,
        place,
        alone=alone,
        statement=statement,
    )
    try:
        await logs.open(schema, cluster_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logs.run)
            yield logs
            await logs.close()
            nursery.cancel_scope.cancel()
    finally:
        logs.end()
