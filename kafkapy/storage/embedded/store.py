"""The embedded store: partition logs in a directory, in Kafka's own layout.

Opened by `open_embedded`, which locks the directory, loads every partition, and at the end leaves what a quick start
needs. Appends and cached reads run on the event loop; syncs and cold reads go to worker threads, one sync for all who
wait. What the bytes look like stands in docs/storage_format.md.
"""

import fcntl
import logging
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.config.properties import parse_properties
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId, TopicPartition, format_uuid
from kafkapy.records.batch import CorruptBatch
from kafkapy.storage.base import (
    Bounds,
    EpochEnd,
    FoundTime,
    LogSettings,
    Outcome,
    Place,
    Read,
    Slice,
    Watch,
    Write,
)
from kafkapy.storage.embedded import checkpoints, recovery
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.sequencing import Accepted, Repeated
from kafkapy.storage.watching import Watchers

_log = logging.getLogger(__name__)

_NEVER_MS: Final = (1 << 63) - 1
_FLUSH_TICK_SECONDS: Final = 0.1
_DELETED_SUFFIX: Final = "-delete"
_MAX_FILE_NAME: Final = 255
_UNKNOWN_TOPIC_ID: Final = bytes(16)


class DirectoryInUse(Exception):
    """Another process has the data directory open."""


class DirectoryMismatch(Exception):
    """The directory belongs to another cluster or node."""


class EmbeddedLogs:
    """The seam's `Logs` over a directory."""

    def __init__(self, directory: Path, disk: Disk, clock: Clock, cluster_id: str, nursery: trio.Nursery) -> None:
        self.directory = directory
        self.cluster_id = cluster_id
        self._disk = disk
        self._clock = clock
        self._nursery = nursery
        self._partitions: dict[LogId, Partition] = {}
        self._nameless: dict[TopicPartition, Partition] = {}
        self._watchers = Watchers()
        self._sync_requests: list[tuple[Partition, trio.Event]] = []
        self._sync_running = False
        self._flushes_by_time = False

    # -- what exists

    async def create(self, log: LogId, settings: LogSettings) -> None:
        settings = _with_jitter(settings)
        if log in self._partitions:
            await self.configure(log, settings)
            return
        found = self._nameless.pop(TopicPartition(log.topic, log.partition), None)
        if found is not None:
            # A power cut took the file that names the topic id. The cluster's metadata says whose log this is.
            found.log = log
            self._partitions[log] = found
            checkpoints.write_topic_id(self._disk, found.folder, log.topic_id)
            await self.configure(log, settings)
            return
        folder = self.directory / str(log)
        if folder.exists():  # only then can there be an older one; the search looks at every log
            for other in [other for other in self._partitions if other[:2] == log[:2]]:
                await self.delete(other)  # an older topic of the same name
        self._disk.make_folder(folder)
        checkpoints.write_topic_id(self._disk, folder, log.topic_id)
        self._partitions[log] = Partition(self._disk, folder, log, settings, 0)
        self._watch_flush_time(settings)

    async def configure(self, log: LogId, settings: LogSettings) -> None:
        self._partitions[log].settings = settings
        self._watch_flush_time(settings)

    async def delete(self, log: LogId) -> None:
        partition = self._partitions.pop(log, None)
        if partition is None:
            return
        doomed = self.directory / _doomed_name(partition.folder.name)
        self._disk.rename(partition.folder, doomed)
        # A namesake must not inherit what the checkpoints say of this log.
        if partition.start_offset:
            self._write_log_starts()
        if partition.recovery_point:
            self._write_recovery_points()
        delay_seconds = partition.settings.file_delete_delay_ms / 1000
        self._nursery.start_soon(self._remove_later, doomed, delay_seconds)
        self._watchers.notify(log)

    async def _remove_later(self, folder: Path, delay_seconds: float) -> None:
        await self._clock.sleep(delay_seconds)
        await trio.to_thread.run_sync(self._disk.remove_folder, folder)

    def logs(self) -> Sequence[LogId]:
        return [*self._partitions, *(partition.log for partition in self._nameless.values())]

    def bounds(self, log: LogId) -> Bounds | None:
        partition = self._partitions.get(log)
        return partition.bounds() if partition else None

    # -- appending

    async def append(self, writes: Sequence[Write]) -> list[Outcome]:
        outcomes = []
        unsynced: set[Partition] = set()
        for write in writes:
            partition = self._partitions.get(write.log)
            if partition is None:
                outcomes.append(Outcome(error=Error.UNKNOWN_TOPIC_OR_PARTITION))
                continue
            outcome = self._append(partition, write)
            outcomes.append(outcome)
            end_offset = outcome.end_offset  # -1 when it is refused
            # A repeat, too, is answered only when the first of its kind could be.
            if end_offset > partition.high_watermark:
                if partition.unflushed_count >= partition.settings.flush_messages:
                    unsynced.add(partition)
                else:
                    self._publish(partition, end_offset)
            if partition.sync_is_due:
                partition.sync_is_due = False
                self._nursery.start_soon(self._sync, partition)
        if unsynced:
            for partition in unsynced:
                await self._sync(partition)
            outcomes = [
                Outcome(error=Error.KAFKA_STORAGE_ERROR, message="the log could not be synced")
                if not outcome.error and self._has_failed(write.log)
                else outcome
                for write, outcome in zip(writes, outcomes, strict=True)
            ]
        return outcomes

    def _append(self, partition: Partition, write: Write) -> Outcome:
        if partition.failed:
            return Outcome(error=Error.KAFKA_STORAGE_ERROR, message="the log is closed since its disk failed")
        head = partition.head
        if write.expect_end is not None and write.expect_end != head.end_offset:
            return Outcome(error=Error.NOT_LEADER_OR_FOLLOWER, message="the log has grown under another owner")
        verdict = head.judge(write.headers, write.data, write.origin)
        if isinstance(verdict, Accepted):
            if not partition.unflushed_count:
                partition.unflushed_since_ms = self._clock.now_ms()
            try:
                partition.append(write, verdict)
            except OSError as failure:
                _log.error("%s: an append failed: %s", partition.log, failure)
                problem = f"the disk failed: {failure.strerror or failure}"
                return Outcome(error=Error.KAFKA_STORAGE_ERROR, message=problem)
            base_offset, end_offset, _, _ = verdict
            return Outcome(base_offset, end_offset, partition.start_offset)
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

    def _has_failed(self, log: LogId) -> bool:
        partition = self._partitions.get(log)
        return partition is not None and partition.failed

    # -- syncing: one thread, one round for all who came before it began

    async def _sync(self, partition: Partition) -> None:
        done = trio.Event()
        self._sync_requests.append((partition, done))
        if self._sync_running:
            await done.wait()
            return
        self._sync_running = True
        try:
            with trio.CancelScope(shield=True):
                while self._sync_requests:
                    await self._sync_round()
        finally:
            self._sync_running = False

    async def _sync_round(self) -> None:
        requests, self._sync_requests = self._sync_requests, []
        sealed = any(partition.sealed_unsynced for partition, _ in requests)
        ends, paths = _begin_sync({partition for partition, _ in requests})
        failed = await trio.to_thread.run_sync(_sync_all, self._disk, paths)
        self._end_sync(ends, failed)
        if sealed:
            self._write_recovery_points()  # so that a crash does not have the sealed segments read again
        for _, done in requests:
            done.set()

    def _end_sync(self, ends: dict[Partition, int], failed: dict[Partition, str]) -> None:
        for partition, end_offset in ends.items():
            if partition in failed:
                _log.critical("%s: a sync failed, the log takes no more writes: %s", partition.log, failed[partition])
                partition.failed = True
            else:
                partition.synced(end_offset)
                self._publish(partition, end_offset)

    def _watch_flush_time(self, settings: LogSettings) -> None:
        if settings.flush_ms < _NEVER_MS and not self._flushes_by_time:
            self._flushes_by_time = True
            self._nursery.start_soon(self._flush_by_time)

    async def _flush_by_time(self) -> None:
        """Sync what has waited for longer than its topic allows (flush.ms)."""
        while True:
            await self._clock.sleep(_FLUSH_TICK_SECONDS)
            now_ms = self._clock.now_ms()
            for partition in list(self._partitions.values()):
                waited_ms = now_ms - partition.unflushed_since_ms
                if partition.unflushed_count and waited_ms >= partition.settings.flush_ms and not partition.failed:
                    await self._sync(partition)

    # -- reading

    async def read(self, reads: Sequence[Read], max_bytes: int) -> list[Slice]:
        slices = []
        left, found = max_bytes, False
        for read in reads:
            partition = self._partitions.get(read.log)
            if partition is None:
                slices.append(Slice(error=Error.UNKNOWN_TOPIC_OR_PARTITION))
                continue
            try:
                piece = await partition.read(read, left, whole_first=not found)
            except OSError as failure:
                _log.error("%s: a read failed: %s", read.log, failure)
                piece = Slice(error=Error.KAFKA_STORAGE_ERROR)
            except CorruptBatch as damage:
                _log.error("%s: damaged near offset %d: %s", read.log, read.offset, damage)
                piece = Slice(error=Error.CORRUPT_MESSAGE)
            if size := piece.size_bytes:
                found = True
                left = max(left - size, 0)
            slices.append(piece)
        return slices

    async def find_time(self, log: LogId, timestamp: int) -> FoundTime | None:
        return self._partitions[log].find_time(timestamp)

    async def find_max_time(self, log: LogId) -> FoundTime | None:
        return self._partitions[log].find_max_time()

    async def epoch_end(self, log: LogId, leader_epoch: int) -> EpochEnd | None:
        return self._partitions[log].epoch_end(leader_epoch)

    async def trim(self, log: LogId, offset: int) -> int:
        partition = self._partitions[log]
        try:
            partition.trim(offset)
        except OSError as failure:
            _log.error("%s: what was deleted could not be removed: %s", log, failure)
            raise KafkaError(Error.KAFKA_STORAGE_ERROR) from failure
        finally:
            self._write_log_starts()
        return partition.start_offset

    def size_bytes(self, log: LogId) -> int:
        partition = self._partitions.get(log)
        return sum(segment.size for segment in partition.segments) if partition else 0

    def place(self) -> Place:
        return Place(str(self.directory.absolute()), *self._disk.room(self.directory))

    def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        for partition in self._partitions.values():
            partition.head.expire(now_ms, expiration_ms)

    def watch(self, logs: Sequence[LogId], wake: Callable[[], None]) -> Watch:
        return self._watchers.watch(logs, wake)

    # -- opening and closing

    def load(self, *, clean: bool) -> None:
        """Find every partition in the directory."""
        recovery_points = checkpoints.read_offsets(self._disk, self.directory / checkpoints.RECOVERY_POINTS)
        starts = checkpoints.read_offsets(self._disk, self.directory / checkpoints.LOG_STARTS)
        for name in self._disk.names(self.directory):
            folder = self.directory / name
            if name.endswith(_DELETED_SUFFIX):
                self._nursery.start_soon(self._remove_later, folder, 0)
                continue
            key = checkpoints.parse_folder_name(name)
            if key is None or not folder.is_dir():
                continue
            topic_id = checkpoints.read_topic_id(self._disk, folder)
            log = LogId(key.topic, key.partition, topic_id or _UNKNOWN_TOPIC_ID)
            partition = recovery.load(
                self._disk,
                folder,
                log,
                LogSettings(),
                names=self._disk.names(folder),
                start_offset=starts.get(key, 0),
                recovery_point=recovery_points.get(key, 0),
                clean=clean,
            )
            if topic_id is None:
                self._nameless[key] = partition
            else:
                self._partitions[log] = partition

    def save(self) -> None:
        """Leave everything that a quick start needs, and say so: the last thing that is written."""
        everything = [*self._partitions.values(), *self._nameless.values()]
        written = [partition for partition in everything if partition.segments and not partition.failed]
        ends, paths = _begin_sync({partition for partition in written if partition.unflushed_count})
        self._end_sync(ends, _sync_all(self._disk, paths))
        for partition in written:
            if partition.failed:
                continue
            partition.active.save_indexes()
            partition.save_snapshot(partition.head.end_offset)
        self._write_recovery_points()
        watermarks = {_key(partition): partition.high_watermark for partition in self._partitions.values()}
        self._write_checkpoint(checkpoints.HIGH_WATERMARKS, watermarks)
        self._write_log_starts()
        if not any(partition.failed for partition in everything):
            self._disk.write_file(self.directory / checkpoints.CLEAN_SHUTDOWN, b'{"version":0,"brokerEpoch":-1}')

    def _write_recovery_points(self) -> None:
        points = {_key(p): p.recovery_point for p in self._partitions.values() if p.segments}
        self._write_checkpoint(checkpoints.RECOVERY_POINTS, points)

    def _write_log_starts(self) -> None:
        starts = {_key(p): p.start_offset for p in self._partitions.values() if p.start_offset > 0}
        self._write_checkpoint(checkpoints.LOG_STARTS, starts)

    def _write_checkpoint(self, name: str, offsets: dict[TopicPartition, int]) -> None:
        try:
            checkpoints.write_offsets(self._disk, self.directory / name, offsets)
        except OSError as failure:
            _log.error("%s could not be written, the old one stays: %s", name, failure)


@asynccontextmanager
async def open_embedded(
    directory: Path, *, clock: Clock, node_id: int, cluster_id: str | None = None, disk: Disk | None = None
) -> AsyncIterator[EmbeddedLogs]:
    """Open the store in `directory`, which is created if need be.

    `cluster_id` None takes the directory's own, or makes one up. Raises DirectoryInUse, DirectoryMismatch, OSError.
    """
    disk = disk or Disk()
    disk.make_folder(directory)
    lock = _lock(directory)
    try:
        _refuse_metadata_snapshots(directory)
        cluster_id = _identify(disk, directory, node_id, cluster_id)
        clean_mark = directory / checkpoints.CLEAN_SHUTDOWN
        clean = disk.read_file(clean_mark) is not None
        disk.remove(str(clean_mark))
        async with trio.open_nursery() as nursery:
            logs = EmbeddedLogs(directory, disk, clock, cluster_id, nursery)
            logs.load(clean=clean)
            stopped = False
            try:
                yield logs
                stopped = True
            except trio.Cancelled:
                stopped = True
                raise
            finally:
                # After a broken invariant nothing is called clean: the next start reads the logs again.
                if stopped:
                    logs.save()
                nursery.cancel_scope.cancel()
    finally:
        disk.close()
        os.close(lock)


def _begin_sync(partitions: set[Partition]) -> tuple[dict[Partition, int], dict[Partition, list[str]]]:
    """Where each partition ends now, and the files to sync for that."""
    begun = {partition: partition.begin_sync() for partition in partitions}
    return {p: end_offset for p, (end_offset, _) in begun.items()}, {p: paths for p, (_, paths) in begun.items()}


def _sync_all(disk: Disk, paths: dict[Partition, list[str]]) -> dict[Partition, str]:
    """Sync each partition's files; the ones that failed, with what the system said."""
    failed = {}
    for partition, files in paths.items():
        try:
            disk.sync(files)
        except OSError as failure:
            failed[partition] = str(failure)
    return failed


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / checkpoints.LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DirectoryInUse(f"{directory} is in use by another process") from None
    return descriptor


def _refuse_metadata_snapshots(directory: Path) -> None:
    """Refuse a directory whose topics stand in Apache Kafka's metadata snapshots, which are not read here.

    Its metadata log would tell only part of the topics, and the logs of the others would be taken for left-overs.
    """
    snapshots = [
        path for path in (directory / "__cluster_metadata-0").glob("*.checkpoint") if path.name[:20].strip("0")
    ]
    if snapshots:
        raise DirectoryMismatch(f"{directory} holds metadata snapshots of Apache Kafka, which kafkapy does not read")


def _identify(disk: Disk, directory: Path, node_id: int, cluster_id: str | None) -> str:
    """Check or write meta.properties; the cluster id that holds."""
    path = directory / checkpoints.META_PROPERTIES
    present = parse_properties((disk.read_file(path) or b"").decode("utf-8", "replace"))
    if present.get("cluster.id"):
        known = present["cluster.id"]
        if cluster_id is not None and cluster_id != known:
            raise DirectoryMismatch(f"{directory} belongs to cluster {known}, not to {cluster_id}")
        if present.get("node.id", str(node_id)) != str(node_id):
            raise DirectoryMismatch(f"{directory} belongs to node {present['node.id']}, not to {node_id}")
        return known
    cluster_id = cluster_id or format_uuid(uuid.uuid4().bytes)
    directory_id = format_uuid(uuid.uuid4().bytes)
    lines = ["version=1", f"cluster.id={cluster_id}", f"node.id={node_id}", f"directory.id={directory_id}", ""]
    disk.write_file(path, "\n".join(lines).encode())
    return cluster_id


def _doomed_name(name: str) -> str:
    """The name of a folder that waits for its removal; cut so that file systems take it."""
    suffix = f".{uuid.uuid4().hex}{_DELETED_SUFFIX}"
    return name[: _MAX_FILE_NAME - len(suffix)] + suffix


def _with_jitter(settings: LogSettings) -> LogSettings:
    """Each log draws its own part of segment.jitter.ms, so that they do not all roll at once."""
    if not settings.segment_jitter_ms:
        return settings
    return replace(settings, segment_jitter_ms=random.randrange(settings.segment_jitter_ms))


def _key(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.log.topic, partition.log.partition)
