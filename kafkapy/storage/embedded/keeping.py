"""The offset checkpoints of a directory: written soon after something in them changed, and what they hide then goes.

A log's recovery point, its start, and how far it is clean. Called by the store.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.model import LogId, TopicPartition
from kafkapy.storage.embedded import checkpoints
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.removal import Removal
from kafkapy.storage.embedded.segment import Segment

_AFTER_SECONDS: Final = 1.0
"""So soon after a change the checkpoints are written; all changes until then share one write."""

Offsets = dict[TopicPartition, int]


class OffsetCheckpoints:
    """The checkpoints of these logs. `known` are the logs that those on disk tell of."""

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        clock: Clock,
        partitions: Mapping[LogId, Partition],
        removal: Removal,
        complain: Callable[..., None],
    ) -> None:
        self.known: set[TopicPartition] = set()
        self._directory = directory
        self._disk = disk
        self._clock = clock
        self._partitions = partitions
        self._removal = removal
        self._complain = complain
        self._due = trio.Event()
        self._count = self._written = 0
        self._cleaned_on_disk: Offsets = {}
        self._lock = Lock()

    def read(self) -> tuple[Offsets, Offsets, Offsets]:
        """The recovery points, starts and what is clean, as they are on disk."""
        points = checkpoints.read_offsets(self._disk, self._directory / checkpoints.RECOVERY_POINTS)
        starts = checkpoints.read_offsets(self._disk, self._directory / checkpoints.LOG_STARTS)
        cleaned = checkpoints.read_offsets(self._disk, self._directory / checkpoints.CLEANED)
        self.known = {*points, *starts, *cleaned}
        self._cleaned_on_disk = cleaned
        return points, starts, cleaned

    def set_due(self) -> None:
        """Something has changed."""
        self._due.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._due.wait()
            await self._clock.sleep(_AFTER_SECONDS)
            self._due = trio.Event()
            dropped = {
                partition: list(partition.dropped) for partition in self._partitions.values() if partition.dropped
            }
            if await self.write_aside() and await self._sync_folders(dropped):
                for partition, segments in dropped.items():
                    self._set_segments_aside(partition, segments)

    async def write_aside(self) -> bool:
        """Write them now, in a worker thread; false when that failed, which is said."""
        offsets = self._offsets_to_keep()
        try:
            await trio.to_thread.run_sync(self._write_offsets, *offsets)
        except OSError as failure:
            self._complain(failure, "the checkpoints could not be written, the old ones stay: %s", failure)
            return False
        return True

    def write(self) -> None:
        """Write them now. Raises OSError."""
        self._write_offsets(*self._offsets_to_keep())

    async def _sync_folders(self, partitions: Iterable[Partition]) -> bool:
        """Have the files that these logs begin with now found after a power cut: one that took them, and some of those
        before them, would have a log end where it did not. False when that failed, which is said.
        """
        folders = [str(partition.folder) for partition in partitions]

        def sync() -> None:
            for folder in folders:
                self._disk.sync_folder(folder)

        try:
            await trio.to_thread.run_sync(sync)
        except OSError as failure:
            self._complain(failure, "what was dropped could not be removed: %s", failure)
            return False
        return True

    def _set_segments_aside(self, partition: Partition, segments: Iterable[Segment]) -> None:
        """Have the files of dropped segments removed, now that the checkpoint tells where the log begins."""
        try:
            for segment in segments:
                if segment not in partition.dropped:
                    continue  # the log was moved meanwhile, and left it behind
                for path in segment.set_aside():
                    self._removal.add(path, partition.settings.file_delete_delay_ms)
                partition.dropped.remove(segment)
        except OSError as failure:
            # Hidden by the log's start; the next checkpoint, or the next start, tries again.
            self._complain(failure, "%s: what was dropped could not be removed: %s", partition.log, failure)

    def _offsets_to_keep(self) -> tuple[int, Offsets, Offsets, Offsets]:
        """Recovery points, starts and what is clean as they are now, after how many others."""
        self._count += 1
        points = {key_of(p): p.recovery_point for p in self._partitions.values() if p.recovery_point > 0}
        starts = {key_of(p): p.start_offset for p in self._partitions.values() if p.start_offset > 0}
        cleaned = {key_of(p): p.cleaned_to for p in self._partitions.values() if p.cleaned_to > 0}
        return self._count, points, starts, cleaned

    def _write_offsets(self, number: int, points: Offsets, starts: Offsets, cleaned: Offsets) -> None:
        """Write these checkpoints unless younger ones have been written; for any thread."""
        with self._lock:
            if number > self._written:
                checkpoints.write_offsets(self._disk, self._directory / checkpoints.RECOVERY_POINTS, points)
                checkpoints.write_offsets(self._disk, self._directory / checkpoints.LOG_STARTS, starts)
                if cleaned != self._cleaned_on_disk:
                    checkpoints.write_offsets(self._disk, self._directory / checkpoints.CLEANED, cleaned)
                    self._cleaned_on_disk = cleaned
                self._written = number
                self.known = {*points, *starts, *cleaned}


def key_of(partition: Partition) -> TopicPartition:
    """By what a checkpoint knows the log."""
    return TopicPartition(partition.log.topic, partition.log.partition)
