"""One of the directories that logs lie in: its logs and checkpoints, and whether it takes writes.

When the disk refuses a write (it is full, fails, or is read-only now) the directory goes offline: nothing is written to
any of its logs, which answer KAFKA_STORAGE_ERROR, while other directories go on, and so do readers. Kafka leaves it so
until the broker is started again. Here it is tried now and then, in a worker thread, whether something can be written
and synced; then the directory is back, and the log of the broker says so (decision 30).

Invariants
 1. While a directory is offline nothing is appended to its logs, and no log is made there.
 2. A log whose sync failed, or that could not be cut back, takes no writes before it has been mended (`mending`).
 3. One that was taken away (removed, emptied, moved, unmounted) stays offline: what is in its place is not it.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.errors import Error
from kafkapy.model import METADATA_TOPIC, LogId, TopicPartition
from kafkapy.storage.base import LogDir, Replica
from kafkapy.storage.embedded import empty_logs
from kafkapy.storage.embedded.checkpoints import CLEAN_SHUTDOWN, HIGH_WATERMARKS, META_PROPERTIES, write_offsets
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.keeping import OffsetCheckpoints, key_of
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.removal import Removal

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
"""So long it is waited before the disk is tried; twice as long each time it fails soon after it was back."""

_OF_THE_DISK: Final = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.ENXIO,
    errno.ENODEV,
}
"""What says that no other write would go better. Anything else is one log's trouble."""


class LogDirectory:
    """A directory, the logs in it by their ids, and those whose topic id a power cut took (`nameless`).

    `mend` is called, once the disk takes writes again, before the logs do. `only_metadata`: no other log is made here.
    """

    def __init__(
        self,
        path: Path,
        disk: Disk,
        clock: Clock,
        removal: Removal,
        mend: "Callable[[LogDirectory], Awaitable[None]]",
        *,
        only_metadata: bool = False,
    ) -> None:
        self.path = path
        self.only_metadata = only_metadata
        self.partitions: dict[LogId, Partition] = {}
        self.nameless: dict[TopicPartition, Partition] = {}
        self._has_metadata = False  # that log neither moves nor goes
        self.futures: dict[LogId, tuple[int, int]] = {}
        """Logs that are being copied here: so many bytes are, and so many offsets are not yet."""
        self.offline: str | None = None
        """Why it takes no writes; None when it does."""
        self.is_lost = False
        self.trouble = trio.Event()
        self.kept = OffsetCheckpoints(path, disk, clock, self.partitions, removal, self.complain)
        self._disk = disk
        self._clock = clock
        self._mend = mend
        self._failed = trio.Event()
        self._background = trio.CancelScope()
        self._identity = disk.identity(path)

    def log_count(self) -> int:
        """How many logs compete for its room; the metadata log is not counted, as in Kafka."""
        return len(self.partitions) + len(self.nameless) - self._has_metadata

    def add(self, partition: Partition) -> None:
        """This log lies here from now on."""
        partition.is_offline = self.offline is not None
        self.partitions[partition.log] = partition
        self._has_metadata |= partition.log.topic == METADATA_TOPIC

    def complain(self, failure: OSError | None, text: str, *arguments: object) -> None:
        """Say what the disk refused, see whether the directory is still there, and whether it takes writes."""
        _log.error(text, *arguments)
        self.trouble.set()
        if failure is not None and failure.errno in _OF_THE_DISK:
            self.go_offline(failure.strerror or str(failure))

    def go_offline(self, reason: str) -> None:
        """Nothing more is written here, for this reason."""
        if self.offline is None:
            self.offline = reason
            _log.critical("log directory %s is offline, its logs take no writes: %s", self.path, reason)
            for partition in self.partitions.values():
                partition.is_offline = True
            self._failed.set()

    def lose(self, reason: str) -> None:
        """The directory is not there, or cannot be used: not before the broker is started again."""
        self.is_lost = True
        self.go_offline(reason)
        self._background.cancel()

    def described(self) -> LogDir:
        """What is told of it."""
        path = str(self.path.absolute())
        if self.offline is not None:
            return LogDir(path, error=Error.KAFKA_STORAGE_ERROR)
        try:
            total, usable = self._disk.room(self.path)
        except OSError as failure:
            self.complain(failure, "the room in %s could not be told: %s", path, failure)
            return LogDir(path, error=Error.KAFKA_STORAGE_ERROR)
        replicas = [Replica(log, partition.size_bytes) for log, partition in self.partitions.items()]
        replicas += [Replica(log, size, lag, is_future=True) for log, (size, lag) in self.futures.items()]
        return LogDir(path, total, usable, replicas)

    def is_there(self) -> bool:
        """Whether the directory is still the one that was opened, and holds what it must."""
        return (
            self._disk.identity(self.path) == self._identity
            and self._disk.identity(self.path / META_PROPERTIES) is not None
        )

    def leave_clean(self, sync_now: Callable[[Iterable[Partition]], None]) -> None:
        """Leave everything that a quick start needs, and say so: the last thing that is written here."""
        everything = [*self.partitions.values(), *self.nameless.values()]
        written = [partition for partition in everything if partition.segments and not partition.failed]
        sync_now([partition for partition in written if partition.unflushed_count])
        try:
            sound = [partition for partition in written if not partition.failed]
            for partition in sound:
                partition.active.save_indexes()
                partition.save_snapshot(partition.head.end_offset)
            # A time index that ends too early is not to be told from a whole one.
            self._disk.sync([p.active.paths()[2] for p in sound if p.active.times_unsynced])
            self.kept.write()
            watermarks = {key_of(partition): partition.high_watermark for partition in self.partitions.values()}
            write_offsets(self._disk, self.path / HIGH_WATERMARKS, watermarks)
            empty_logs.write(self._disk, self.path, self.partitions.values())
            if not any(partition.failed for partition in everything):
                self._disk.write_file(self.path / CLEAN_SHUTDOWN, b'{"version":0,"brokerEpoch":-1}', sync=True)
        except OSError as failure:
            _log.error("the stop is not a clean one, the next start reads the logs in %s again: %s", self.path, failure)

    async def run(self) -> None:
        """Do what is to be done in the background, until cancelled."""
        with self._background:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.kept.run)
                nursery.start_soon(self._come_back)

    async def _come_back(self) -> None:
        pause, back_at = _FIRST_PAUSE_SECONDS, float("-inf")
        while True:
            await self._failed.wait()
            begun = self._clock.monotonic()
            if begun - back_at < _LONGEST_PAUSE_SECONDS:
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                pause = _FIRST_PAUSE_SECONDS
            while self.offline is not None:
                await self._clock.sleep(pause)
                if self.is_there():
                    await self._try()
            self._failed = trio.Event()
            back_at = self._clock.monotonic()
            _log.warning("log directory %s is back after %d s, its logs take writes again", self.path, back_at - begun)

    async def _try(self) -> None:
        try:
            await trio.to_thread.run_sync(self._disk.probe, self.path)
        except OSError as failure:
            _log.debug("log directory %s is still offline: %s", self.path, failure)
            return
        await self._mend(self)
        self.offline = None
        for partition in self.partitions.values():
            partition.is_offline = False
        self.kept.set_due()
