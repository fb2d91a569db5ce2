"""The embedded store: partition logs in a directory, in Kafka's own layout.

Opened by `directory.open_embedded`. Appends and cached reads run on the event loop; syncs and cold reads go to worker
threads. What the bytes look like stands in docs/storage_format.md.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
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
from kafkapy.storage.embedded.keeping import OffsetCheckpoints, key_of
from kafkapy.storage.embedded.names import STRAY_SUFFIX
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.removal import Removal
from kafkapy.storage.embedded.shelf import Shelf
from kafkapy.storage.embedded.syncing import Syncer
from kafkapy.storage.sequencing import Accepted, Repeated
from kafkapy.storage.sole import SoleLeases
from kafkapy.storage.verification import Claim, Verification
from kafkapy.storage.watching import Watchers
from kafkapy.turns import Steps, Turns

_log = logging.getLogger(__name__)

_PRODUCERS_A_STEP: Final = 5000
_LOGS_A_STEP: Final = 10
"""So many logs are made or deleted before the others get their turn: some milliseconds' work."""


class EmbeddedLogs:
    """The seam's `Logs` over a directory."""

    def __init__(self, directory: Path, disk: Disk, clock: Clock, turns: Turns, node_id: int, cluster_id: str) -> None:
        self.directory = directory
        self.cluster_id = cluster_id
        self.leases = SoleLeases(node_id)
        self._disk = disk
        self._clock = clock
        self._turns = turns
        self._partitions: dict[LogId, Partition] = {}
        self.trouble = trio.Event()
        self._watchers = Watchers()
        self._syncer = Syncer(disk, clock, self._publish)
        self._removal = Removal(disk, clock)
        self._cleaner = Cleaner(disk, clock, turns, self._removal, self._is_open)
        self._kept = OffsetCheckpoints(directory, disk, clock, self._partitions, self._removal, self._complain)
        self._shelf = Shelf(
            directory, disk, self._partitions, self._kept, self._removal, self._forgotten, self._complain
        )
        self._find = self._shelf.find

    async def run(self) -> None:
        """Do what is to be done in the background, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._syncer.run)
            nursery.start_soon(self._removal.run)
            nursery.start_soon(self._kept.run)

    def _complain(self, text: str, *arguments: object) -> None:
        """Say what the disk refused, and have it seen whether the directory is still there (`directory`)."""
        _log.error(text, *arguments)
        self.trouble.set()

    # -- what exists

    def adopt(self, catalogue: Catalogue) -> None:
        self._shelf.catalogue = catalogue

    async def catalogue_changed(self, logs: Iterable[LogId] | None) -> None:
        shelf, catalogue = self._shelf, self._shelf.catalogue
        named = dict.fromkeys(catalogue.logs() if logs is None else logs)
        unknown: list[LogId] = []
        if logs is None:
            unknown = [log for log in self._partitions if log not in named]
        gone = [log for log in [*named, *unknown] if catalogue.is_gone(log)]
        await self._in_steps(gone, shelf.delete)
        self.leases.lose(gone)
        strays = [log for log in unknown if log in self._partitions]
        await self._in_steps(strays, shelf.set_aside)
        there = [log for log in named if catalogue.settings(log) is not None]
        await self._in_steps(there, self._follow)
        if logs is None:
            strays += shelf.set_nameless_aside()
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

        def synced() -> None:
            nonlocal left
            left -= 1
            if not left:
                pending.resolve(
                    [
                        Outcome(error=Error.KAFKA_STORAGE_ERROR, message="the log could not be synced")
                        if not outcome.error and self._has_failed(write.log)
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
        if partition.failed:
            return Outcome(error=Error.KAFKA_STORAGE_ERROR, message="the log is closed since its disk failed")
        head = partition.head
        if write.expect_end is not None and write.expect_end != head.end_offset:
            return Outcome(error=Error.NOT_LEADER_OR_FOLLOWER, message="the log has grown under another owner")
        verdict = head.judge(write.headers, write.origin, write.verification)
        if isinstance(verdict, Accepted):
            first_unflushed = not partition.unflushed_count
            try:
                partition.append(write, verdict)
            except OSError as failure:
                self._complain("%s: an append failed: %s", partition.log, failure)
                problem = f"the disk failed: {failure.strerror or failure}"
                return Outcome(error=Error.KAFKA_STORAGE_ERROR, message=problem)
            if first_unflushed:
                partition.unflushed_since = self._clock.monotonic()
                self._syncer.note_unsynced(partition)
            return Outcome(verdict.base_offset, verdict.end_offset, partition.start_offset)
        if isinstance(verdict, Repeated):
            return Outcome(
                verdict.first_offset,
                verdict.last_offset + 1,
                partition.start_offset,
                duplicate=True,
                repeated_timestamp=verdict.timestamp,
            )
        return Outcome(log_start_offset=partition.start_offset, error=verdict.error, message=verdict.message)

    def _publish(self, partition: Partition, end_offset: int) -> None:
        """Readers may see what lies before `end_offset`."""
        if end_offset > partition.high_watermark:
            partition.high_watermark = end_offset
            self._watchers.notify(partition.log)
        if partition.sealed_was_synced:
            partition.sealed_was_synced = False
            self._kept.set_due()  # so that a crash does not have the sealed segments read again

    def _has_failed(self, log: LogId) -> bool:
        partition = self._partitions.get(log)
        return partition is not None and partition.failed

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
                self._complain("%s: a read failed: %s", read.log, failure)
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
            if log not in self._partitions:
                raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION) from failure  # it went meanwhile
            self._complain("%s: a look-up by time failed: %s", log, failure)
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
            if isinstance(partition, Partition) and not partition.failed:
                try:
                    count = partition.expire(now_ms)
                except OSError as failure:
                    self._complain("%s: what is kept no longer could not be dropped: %s", log, failure)
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
        await self._kept.write_aside()
        return True

    def _is_open(self, partition: Partition) -> bool:
        return self._find(partition.log) is partition and not partition.failed

    def _start_moved(self, partition: Partition) -> None:
        self._kept.set_due()
        self._watchers.notify(partition.log)

    def _there(self, log: LogId) -> Partition:
        partition = self._find(log)
        if not isinstance(partition, Partition):
            raise KafkaError(partition)
        return partition

    def size_bytes(self, log: LogId) -> int:
        partition = self._partitions.get(log)
        return partition.size_bytes if partition else 0

    def log_dir(self) -> LogDir:
        return LogDir(str(self.directory.absolute()), *self._disk.room(self.directory))

    async def save_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        folder = self._there(log).folder
        try:
            await trio.to_thread.run_sync(checkpoints.write_coordinator, self._disk, folder, checkpoint)
        except OSError as failure:
            self._complain("%s: its checkpoint could not be written, the old one stays: %s", log, failure)
            raise KafkaError(Error.KAFKA_STORAGE_ERROR) from failure

    async def load_checkpoint(self, log: LogId) -> Checkpoint | None:
        partition = self._there(log)
        checkpoint = await trio.to_thread.run_sync(checkpoints.read_coordinator, self._disk, partition.folder)
        return None if checkpoint is None or checkpoint.offset < partition.cleaned_to else checkpoint

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

    def watch(self, logs: Sequence[LogId], wake: Callable[[LogId], None]) -> Watch:
        return self._watchers.watch(logs, wake)

    # -- opening and closing

    def load(self, *, clean: bool) -> None:
        """Find every partition in the directory."""
        self._shelf.load(clean=clean)

    def leave_clean(self) -> None:
        """Leave everything that a quick start needs, and say so: the last thing that is written."""
        everything = [*self._partitions.values(), *self._shelf.nameless.values()]
        written = [partition for partition in everything if partition.segments and not partition.failed]
        self._syncer.sync_now([partition for partition in written if partition.unflushed_count])
        try:
            sound = [partition for partition in written if not partition.failed]
            for partition in sound:
                partition.active.save_indexes()
                partition.save_snapshot(partition.head.end_offset)
            # A time index that ends too early is not to be told from a whole one.
            self._disk.sync([p.active.paths()[2] for p in sound if p.active.times_unsynced])
            self._kept.write()
            watermarks = {key_of(partition): partition.high_watermark for partition in self._partitions.values()}
            checkpoints.write_offsets(self._disk, self.directory / checkpoints.HIGH_WATERMARKS, watermarks)
            if not any(partition.failed for partition in everything):
                mark = self.directory / checkpoints.CLEAN_SHUTDOWN
                self._disk.write_file(mark, b'{"version":0,"brokerEpoch":-1}', sync=True)
        except OSError as failure:
            _log.error("the stop is not a clean one, the next start reads the logs again: %s", failure)
