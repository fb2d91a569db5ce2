"""The embedded store: partition logs in directories, in Kafka's own layout.

Opened by `directory.open_embedded`. Appends and cached reads run on the event loop; syncs and cold reads go to worker
threads. What the bytes look like stands in docs/storage_format.md.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_LEADER_EPOCH, IsolationLevel, LogId
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
    Outcome,
    Pending,
    Reach,
    Read,
    Slice,
    Watch,
    Write,
)
from kafkapy.storage.embedded import checkpoints, time_search
from kafkapy.storage.embedded.cleaning import Cleaner
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.log_directory import LogDirectory
from kafkapy.storage.embedded.mending import mend
from kafkapy.storage.embedded.moving import Mover
from kafkapy.storage.embedded.names import STRAY_SUFFIX
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.removal import Removal
from kafkapy.storage.embedded.shelf import Shelf
from kafkapy.storage.embedded.syncing import Syncer
from kafkapy.storage.judging import judged
from kafkapy.storage.sole import SoleLeases
from kafkapy.storage.verification import Claim, Verification
from kafkapy.storage.watching import Watchers
from kafkapy.turns import Steps, Turns

_log = logging.getLogger(__name__)

_PRODUCERS_A_STEP: Final = 5000
_LOGS_A_STEP: Final = 10
"""So many logs are made or deleted before the others get their turn: some milliseconds' work."""


class EmbeddedLogs:
    """The seam's `Logs` over directories, of which the first is that of the metadata log.

    `is_apart`: no other log is made there.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        disk: Disk,
        clock: Clock,
        turns: Turns,
        node_id: int,
        cluster_id: str,
        *,
        is_apart: bool = False,
    ) -> None:
        self.cluster_id = cluster_id
        self.leases = SoleLeases(node_id)
        self._disk = disk
        self._clock = clock
        self._turns = turns
        self._partitions: dict[LogId, Partition] = {}
        self._watchers = Watchers()
        self._changing_checkpoints = trio.Lock()
        self._syncer = Syncer(disk, clock, self._publish, self._sync_failed)
        self._removal = Removal(disk, clock)
        self._cleaner = Cleaner(disk, clock, turns, self._removal, self._is_open)
        self.directories: Mapping[Path, LogDirectory] = {
            path: LogDirectory(
                path, disk, clock, self._removal, self._mend, only_metadata=is_apart and path == paths[0]
            )
            for path in paths
        }
        self._shelf = Shelf(self.directories, disk, self._partitions, self._removal, self._forgotten)
        self._mover = Mover(disk, self._shelf, self._cleaner.at_work)
        self._find, self._home = self._shelf.find, self._shelf.home

    async def run(self) -> None:
        """Do what is to be done in the background, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._syncer.run)
            nursery.start_soon(self._removal.run)
            nursery.start_soon(self._mover.run)
            for directory in self.directories.values():
                nursery.start_soon(directory.run)

    def _sync_failed(self, partition: Partition, reason: str) -> None:
        home = self._home(partition)
        home.complain(None, "%s: a sync failed, the log takes no writes before it is mended: %s", partition.log, reason)
        home.go_offline(reason)

    async def _mend(self, home: LogDirectory) -> None:
        """The disk takes writes again: have those logs mended that it failed."""
        for partition in [partition for partition in home.partitions.values() if partition.failed]:
            try:
                mended = await mend(self._disk, partition, self._clock.monotonic())
            except (OSError, CorruptBatch) as failure:
                if self._partitions.get(partition.log) is partition:
                    _log.critical("%s takes no writes before the next start: %s", partition.log, failure)
                continue
            if self._partitions.get(partition.log) is not partition:
                continue  # it was deleted meanwhile
            if mended is not partition:
                self._shelf.replace(partition, mended)
            self._publish(mended, mended.head.end_offset)
            home.kept.set_due()

    # -- what exists

    def adopt(self, catalogue: Catalogue) -> None:
        self._shelf.catalogue = catalogue

    async def catalogue_changed(self, logs: Iterable[LogId] | None) -> None:
        shelf, catalogue = self._shelf, self._shelf.catalogue
        unknown: list[LogId] = []
        if logs is None:
            named = dict.fromkeys(catalogue.logs())
            unknown = [log for log in self._partitions if log not in named]
            self._shelf.note_out_of_reach(named)
            gone, there = [log for log in unknown if catalogue.is_gone(log)], [*named]
        else:
            named = dict.fromkeys(logs)
            gone = [log for log in named if catalogue.is_gone(log)]
            there = [log for log in named if catalogue.settings(log) is not None]
        await self._in_steps(gone, shelf.delete)
        self.leases.lose(gone)
        strays = [log for log in unknown if log in self._partitions]
        await self._in_steps(strays, shelf.set_aside)
        await self._in_steps(there, self._follow)
        if logs is None:
            strays += shelf.set_nameless_aside()
            for log, target in shelf.interrupted:
                self._mover.move(log, target)
            shelf.interrupted.clear()
        if strays:
            count = Counter(log.topic for log in strays)
            whose = ", ".join(f"{topic} ({partitions})" for topic, partitions in sorted(count.items()))
            _log.warning("kept as …%s, since no topic here has these logs: %s", STRAY_SUFFIX, whose)
        self.leases.gain({log: self._last_epoch(log) for log in there})

    async def _in_steps(self, logs: Sequence[LogId], act: Callable[[LogId], None]) -> None:
        for number, log in enumerate(logs, 1):
            act(log)
            if number % _LOGS_A_STEP == 0:
                await trio.lowlevel.checkpoint()

    def _last_epoch(self, log: LogId) -> int:
        partition = self._partitions.get(log)
        return partition.epochs[-1][0] if partition and partition.epochs else 0

    def _follow(self, log: LogId) -> None:
        """See that the log is there, and that its settings act."""
        partition = self._find(log)
        if isinstance(partition, Partition) and partition.unflushed_count:
            self._syncer.note_unsynced(partition)
            if partition.sealed_unsynced or partition.unflushed_count >= partition.settings.flush_messages:
                self._syncer.sync(partition)  # a crash left it so, or the setting is new

    def _forgotten(self, partition: Partition) -> None:
        self._syncer.forget(partition)
        self._cleaner.forget(partition)
        self._watchers.notify(partition.log)

    def bounds(self, log: LogId) -> Bounds | Error:
        partition = self._partitions.get(log) or self._find(log)
        return partition.bounds() if isinstance(partition, Partition) else partition

    def reach(self, log: LogId, isolation: IsolationLevel) -> Reach | Error:
        partition = self._partitions.get(log) or self._find(log)
        if not isinstance(partition, Partition):
            return partition
        try:
            return partition.reach(isolation)
        except (CorruptBatch, OSError) as failure:
            _log.error("%s: the end of what is readable could not be found: %s", log, failure)
            return Error.KAFKA_STORAGE_ERROR

    # -- appending

    def epoch_origin(self, log: LogId) -> int:
        return 0

    def append(self, writes: Sequence[Write]) -> Pending:
        outcomes = []
        unsynced: dict[Partition, None] = {}
        for write in writes:
            partition = self._find(write.log)
            if not isinstance(partition, Partition):
                outcomes.append(Outcome(error=partition))
                continue
            outcome = self._append(partition, write)
            outcomes.append(outcome)
            end_offset = outcome.end_offset  # -1 when it is refused
            # A repeat, too, is answered only when the first of its kind could be.
            if end_offset > partition.high_watermark:
                if partition.unflushed_count >= partition.settings.flush_messages:
                    unsynced[partition] = None
                else:
                    self._publish(partition, end_offset)
            if partition.sync_is_due:
                self._begin_due_sync(partition)
        if not unsynced:
            return Pending(outcomes)
        pending, left = Pending(), len(unsynced)
        synced_logs = {partition.log: partition for partition in unsynced}

        def synced() -> None:
            nonlocal left
            left -= 1
            if not left:
                pending.resolve(
                    [
                        Outcome(error=Error.KAFKA_STORAGE_ERROR, message="the log could not be synced")
                        if not outcome.error and write.log in synced_logs and synced_logs[write.log].failed
                        else outcome
                        for write, outcome in zip(writes, outcomes, strict=True)
                    ]
                )

        for partition in unsynced:
            self._syncer.sync(partition, synced)
        return pending

    def _begin_due_sync(self, partition: Partition) -> None:
        """Sync what a roll has sealed."""
        partition.sync_is_due = False
        self._syncer.sync(partition)

    def _append(self, partition: Partition, write: Write) -> Outcome:
        if partition.is_offline or partition.failed:
            return Outcome(error=Error.KAFKA_STORAGE_ERROR, message="the log's directory is offline")
        epochs = partition.epochs
        leader_epoch = epochs[-1][0] if epochs else NO_LEADER_EPOCH
        verdict = judged(write, partition.head, leader_epoch=leader_epoch, log_start_offset=partition.start_offset)
        if isinstance(verdict, Outcome):
            return verdict
        first_unflushed = not partition.unflushed_count
        try:
            partition.append(write, verdict)
        except OSError as failure:
            home = self._home(partition)
            home.complain(failure, "%s: an append failed: %s", partition.log, failure)
            if partition.failed:
                home.go_offline(f"{partition.log} could not be cut back")
            problem = f"the disk failed: {failure.strerror or failure}"
            return Outcome(error=Error.KAFKA_STORAGE_ERROR, message=problem)
        if first_unflushed:
            partition.unflushed_since = self._clock.monotonic()
            self._syncer.note_unsynced(partition)
        return Outcome(verdict.base_offset, verdict.end_offset, partition.start_offset)

    def _publish(self, partition: Partition, end_offset: int) -> None:
        """Readers may see what lies before `end_offset`."""
        if end_offset > partition.high_watermark:
            partition.high_watermark = end_offset
            self._watchers.notify(partition.log)
        if partition.sealed_was_synced:
            partition.sealed_was_synced = False
            self._home(partition).kept.set_due()  # so that a crash does not have the sealed segments read again

    # -- reading

    async def read(self, reads: Sequence[Read], max_bytes: int) -> list[Slice]:
        slices = []
        left, found, in_memory = max_bytes, False, 0
        for read in reads:
            partition = self._partitions.get(read.log) or self._find(read.log)
            if not isinstance(partition, Partition):
                slices.append(Slice(error=partition))
                continue
            try:
                piece = await partition.read(read, left, whole_first=not found, in_memory=in_memory)
            except OSError as failure:
                self._home(partition).complain(None, "%s: a read failed: %s", read.log, failure)
                piece = Slice(error=Error.KAFKA_STORAGE_ERROR)
            except CorruptBatch as damage:
                _log.error("%s: damaged near offset %d: %s", read.log, read.offset, damage)
                piece = Slice(error=Error.CORRUPT_MESSAGE)
            if size := piece.size_bytes:
                found = True
                left = max(left - size, 0)
                if piece.region is None:
                    in_memory += size
            slices.append(piece)
        return slices

    async def find_time(self, log: LogId, timestamp: int) -> FoundTime | None:
        return await self._looked_up(log, time_search.find_time(self._there(log), timestamp, self._turns))

    async def find_max_time(self, log: LogId) -> FoundTime | None:
        return await self._looked_up(log, time_search.find_max_time(self._there(log), self._turns))

    async def _looked_up(self, log: LogId, lookup: Awaitable[FoundTime | None]) -> FoundTime | None:
        try:
            return await lookup
        except OSError as failure:
            partition = self._partitions.get(log)
            if partition is None:
                raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION) from failure  # it went meanwhile
            self._home(partition).complain(None, "%s: a look-up by time failed: %s", log, failure)
            raise KafkaError(Error.KAFKA_STORAGE_ERROR) from failure
        except CorruptBatch as damage:
            _log.error("%s: damage met by a look-up by time: %s", log, damage)
            raise KafkaError(Error.CORRUPT_MESSAGE) from damage

    async def epoch_end(self, log: LogId, leader_epoch: int) -> EpochEnd | None:
        return self._there(log).epoch_end(leader_epoch)

    async def trim(self, log: LogId, offset: int) -> int:
        partition = self._there(log)
        partition.trim(offset)
        self._start_moved(partition)
        return partition.start_offset

    async def apply_retention(self, now_ms: int) -> None:
        await self._turns.finish(self._expire_segments(now_ms))

    def _expire_segments(self, now_ms: int) -> Steps[None]:
        for number, log in enumerate(list(self._partitions), 1):
            partition = self._find(log)
            if isinstance(partition, Partition) and not (partition.is_offline or partition.failed):
                try:
                    count = partition.expire(now_ms)
                except OSError as failure:
                    self._home(partition).complain(
                        failure, "%s: what is kept no longer could not be dropped: %s", log, failure
                    )
                else:
                    if count:
                        _log.info("%s: dropped %d segments, it begins at %d now", log, count, partition.start_offset)
                        self._begin_due_sync(partition)
                        self._start_moved(partition)
            if number % _LOGS_A_STEP == 0:
                yield

    async def clean(self, settings: CleanerSettings) -> bool:
        if not await self._cleaner.clean_dirtiest(self._partitions.values(), settings):
            return False
        for directory in self.directories.values():
            await directory.kept.write_aside()
        return True

    def _is_open(self, partition: Partition) -> bool:
        return self._find(partition.log) is partition and not (partition.is_offline or partition.failed)

    def _start_moved(self, partition: Partition) -> None:
        self._home(partition).kept.set_due()
        self._watchers.notify(partition.log)

    def _there(self, log: LogId) -> Partition:
        partition = self._find(log)
        if not isinstance(partition, Partition):
            raise KafkaError(partition)
        return partition

    def size_bytes(self, log: LogId) -> int:
        partition = self._partitions.get(log)
        return partition.size_bytes if partition else 0

    def log_dirs(self) -> list[LogDir]:
        return [directory.described() for directory in self.directories.values() if not directory.only_metadata]

    def alter_log_dir(self, log: LogId, path: str) -> Error:
        for directory in self.directories.values():
            if str(directory.path.absolute()) == path and not directory.only_metadata:
                return self._mover.move(log, directory)
        return Error.LOG_DIR_NOT_FOUND

    async def save_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        await self._change_checkpoints(log, checkpoints.write_coordinator, checkpoint)
        if (partition := self._partitions.get(log)) is not None:
            partition.checkpointed()

    async def load_checkpoints(self, log: LogId) -> list[Checkpoint]:
        partition = self._there(log)
        found = await trio.to_thread.run_sync(checkpoints.read_coordinators, self._disk, partition.folder)
        return [checkpoint for checkpoint in found if checkpoint.offset >= partition.cleaned_to]

    async def drop_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        await self._change_checkpoints(log, checkpoints.drop_coordinator, checkpoint)

    async def _change_checkpoints(
        self, log: LogId, change: Callable[[Disk, Path, Checkpoint], None], checkpoint: Checkpoint
    ) -> None:
        partition = self._there(log)
        if partition.is_offline:
            raise KafkaError(Error.KAFKA_STORAGE_ERROR)
        try:
            async with self._changing_checkpoints:
                await trio.to_thread.run_sync(change, self._disk, partition.folder, checkpoint)
        except OSError as failure:
            self._home(partition).complain(
                failure, "%s: its checkpoints could not be written, the old ones stay: %s", log, failure
            )
            raise KafkaError(Error.KAFKA_STORAGE_ERROR) from failure

    def begin_verification(self, log: LogId, claim: Claim, now_ms: int) -> Verification | Error:
        partition = self._find(log)
        return partition.head.begin_verification(claim, now_ms) if isinstance(partition, Partition) else partition

    def producers(self, log: LogId) -> Sequence[ActiveProducer] | Error:
        partition = self._find(log)
        return partition.head.active_producers() if isinstance(partition, Partition) else partition

    async def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        await self._turns.finish(self._expire_producers(now_ms, expiration_ms))

    def _expire_producers(self, now_ms: int, expiration_ms: int) -> Steps[None]:
        count = 0
        for partition in list(self._partitions.values()):
            count += len(partition.head.producers)
            partition.head.expire(now_ms, expiration_ms)
            if count >= _PRODUCERS_A_STEP:
                count = 0
                yield

    def look_again(self, logs: Sequence[LogId]) -> None:
        for log in logs:
            self._watchers.notify(log)

    def watch(self, logs: Sequence[LogId], wake: Callable[[LogId], None]) -> Watch:
        return self._watchers.watch(logs, wake)

    # -- opening and closing

    def load(self, directory: LogDirectory, *, clean: bool) -> None:
        """Find every partition in the directory. Raises FoundTwice, OSError."""
        self._shelf.load(directory, clean=clean)

    def loaded(self) -> None:
        """All directories have been loaded."""
        self._shelf.loaded()

    def leave_clean(self, directory: LogDirectory) -> None:
        """Leave there everything that a quick start needs, and say so."""
        directory.leave_clean(self._syncer.sync_now)
