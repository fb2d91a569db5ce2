"""Moves logs from one directory to another while they are written to (AlterReplicaLogDirs), one after the other.

A log is copied into a folder called `….<32 hex digits>-future`, as Kafka's, until little is left. Then writers hear
KAFKA_STORAGE_ERROR, which they try again, for the moment that it takes to copy the rest and to sync all of it; the
folder gets the log's name, the old one is set aside, and the log goes on where it is now, as the same object.

Invariants
 1. A folder has the log's name in the new directory only when all of the log is on the medium there. It holds a mark
    then (`MOVED`), which says to a start that finds the log in both that this one counts.
 2. Between that and the old folder's end nothing is appended.
 3. A move that a stop interrupts begins anew at the next start, in the same direction; one that fails is given up.

Called by the store.
"""

import contextlib
import logging
from pathlib import Path
from typing import Final

import trio

from kafkapy.errors import Error
from kafkapy.model import LogId
from kafkapy.storage.embedded import checkpoints
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.log_directory import LogDirectory
from kafkapy.storage.embedded.names import future_name, offset_name
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.segment import Segment
from kafkapy.storage.embedded.shelf import Shelf

_log = logging.getLogger(__name__)

_PIECE_BYTES: Final = 4 << 20
_LITTLE_BYTES: Final = 256 << 10
"""So much may be copied while writers wait."""

_MAX_FILE_NAME: Final = 255


class _Abandoned(Exception):
    """The log went meanwhile, or somebody wants it elsewhere."""


class Mover:
    """What is to be moved, and where to."""

    def __init__(self, disk: Disk, shelf: Shelf, cleaner: trio.Lock) -> None:
        self._disk = disk
        self._shelf = shelf
        self._cleaner = cleaner
        self._wanted: dict[LogId, LogDirectory] = {}
        self._woken = trio.Event()

    def move(self, log: LogId, target: LogDirectory) -> Error:
        """Have the log lie there one day; what stands against it."""
        partition = self._shelf.find(log)
        if isinstance(partition, Error):
            return partition
        if len(future_name(partition.folder.name)) > _MAX_FILE_NAME:
            return Error.INVALID_TOPIC_EXCEPTION
        home = self._shelf.home(partition)
        if target.offline is not None or home.offline is not None:
            return Error.KAFKA_STORAGE_ERROR
        self._wanted.pop(log, None)
        if target is not home:
            self._wanted[log] = target
            self._woken.set()
        return Error.NONE

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            while self._wanted:
                log, target = next(iter(self._wanted.items()))
                partition = self._shelf.partitions.get(log)
                if partition is not None:
                    await self._try(partition, target)
                if self._wanted.get(log) is target:
                    del self._wanted[log]
            self._woken = trio.Event()
            await self._woken.wait()

    async def _try(self, partition: Partition, target: LogDirectory) -> None:
        log, home = partition.log, self._shelf.home(partition)
        future = target.path / future_name(partition.folder.name)
        async with self._cleaner:
            partition.is_moving = True
        target.futures[log] = 0, partition.head.end_offset
        try:
            await self._move(partition, target, future)
        except _Abandoned:
            self._give_up(future)
        except OSError as failure:
            _log.error("%s could not be moved from %s to %s: %s", log, home.path, target.path, failure)
            self._give_up(future)
        else:
            _log.info("%s was moved from %s to %s", log, home.path, target.path)
        finally:
            partition.is_moving = False
            partition.is_offline = self._shelf.home(partition).offline is not None
            del target.futures[log]
            if self._shelf.home(partition) is not target:
                target.partitions.pop(log, None)

    def _give_up(self, future: Path) -> None:
        with contextlib.suppress(OSError):  # the next start removes it
            self._disk.remove_set_aside(future)

    async def _move(self, partition: Partition, target: LogDirectory, future: Path) -> None:
        disk, copied = self._disk, dict[Segment, int]()
        disk.make_folder(future)
        checkpoints.write_topic_id(disk, future, partition.log.topic_id)
        while self._left(partition, copied) > _LITTLE_BYTES:
            await self._copy(partition, target, future, copied)
        await trio.to_thread.run_sync(self._sync, future)
        self._still(partition, target)
        partition.is_offline = True
        await self._copy(partition, target, future, copied)
        await self._copy_what_is_beside(partition, future)
        disk.write_file(future / checkpoints.MOVED, b"")
        await trio.to_thread.run_sync(self._sync, future)
        target.partitions[partition.log] = partition
        if not await target.kept.write_aside():
            raise OSError("its checkpoints could not be written")
        self._still(partition, target)
        home = self._shelf.home(partition)
        with trio.CancelScope(shield=True):
            folder = target.path / partition.folder.name
            disk.rename(future, folder)
            await trio.to_thread.run_sync(disk.sync_folder, str(target.path))
            if self._shelf.partitions.get(partition.log) is partition:
                self._shelf.settle_in(partition, target, folder)
            await trio.to_thread.run_sync(disk.sync_folder, str(home.path))
            disk.remove(str(folder / checkpoints.MOVED))
            partition.is_marked = False

    def _still(self, partition: Partition, target: LogDirectory) -> None:
        """Raises _Abandoned, OSError."""
        if self._wanted.get(partition.log) is not target or self._shelf.partitions.get(partition.log) is not partition:
            raise _Abandoned
        if target.offline is not None or partition.failed:
            raise OSError(target.offline or "its disk failed")

    def _left(self, partition: Partition, copied: dict[Segment, int]) -> int:
        return sum(segment.size - copied.get(segment, 0) for segment in partition.segments)

    async def _copy(self, partition: Partition, target: LogDirectory, future: Path, copied: dict[Segment, int]) -> None:
        """Copy what has been written by now. Raises _Abandoned, OSError."""
        for segment in list(partition.segments):
            end, target_path = segment.size, str(future / f"{offset_name(segment.base_offset)}.log")
            while (begin := copied.get(segment, 0)) < end:
                self._still(partition, target)
                size = min(_PIECE_BYTES, end - begin)
                try:
                    await trio.to_thread.run_sync(self._disk.copy, segment.path, target_path, begin, size)
                except FileNotFoundError:
                    if segment in partition.segments:
                        raise
                    break  # it was dropped meanwhile
                copied[segment] = begin + size
                lag = partition.head.end_offset - segment.base_offset
                target.futures[partition.log] = sum(copied.values()), lag

    async def _copy_what_is_beside(self, partition: Partition, future: Path) -> None:
        """Copy all that is small, and drop what the log has dropped. Raises OSError."""
        for segment in partition.segments:
            segment.write_indexes()
        names = {f"{offset_name(segment.base_offset)}.log" for segment in partition.segments}
        for segment in partition.segments:
            if not segment.size:
                self._disk.make_file(str(future / f"{offset_name(segment.base_offset)}.log"))
        for name in self._disk.names(partition.folder):
            is_of_segment = f"{Path(name).stem}.log" in names and name not in names
            if is_of_segment or name in (checkpoints.LEADER_EPOCHS, *checkpoints.COORDINATOR):
                content = await trio.to_thread.run_sync(self._disk.read_file, partition.folder / name)
                if content is not None:
                    self._disk.write_file(future / name, content)
        for name in self._disk.names(future):
            if name.endswith(".log") and name not in names:
                self._disk.remove(str(future / name))

    def _sync(self, future: Path) -> None:
        """For worker threads. Raises OSError."""
        self._disk.sync([str(future / name) for name in self._disk.names(future)])
        self._disk.sync_folder(str(future))
