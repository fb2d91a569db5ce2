"""The logs of a store, as folders of its directory: found at the start, made, deleted and set aside.

Invariants
 1. A log has its folder, unless the disk refused: then it is tried again whenever somebody asks for it.
 2. A folder whose log is not known and not gone is set aside, never removed.
 3. No log is made while the checkpoints on disk still tell of a namesake's: it would inherit what they say.

Called by the store, on the event loop.
"""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kafkapy.errors import Error
from kafkapy.model import LogId, TopicPartition
from kafkapy.storage.base import Catalogue, LogSettings
from kafkapy.storage.embedded import checkpoints, recovery
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.keeping import OffsetCheckpoints
from kafkapy.storage.embedded.names import (
    DELETED_SUFFIX,
    STRAY_SUFFIX,
    holds_log,
    is_deleted_file,
    is_set_aside,
    parse_folder_name,
    set_aside_name,
)
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.removal import Removal
from kafkapy.storage.embedded.swapping import settle

_UNKNOWN_TOPIC_ID: Final = bytes(16)

Complain = Callable[..., None]


class Shelf:
    """Which logs there are, in `partitions`; `nameless` are those whose topic id a power cut took.

    `forgotten` is told of a log that is no more, `complain` what the disk refused.
    """

    catalogue: Catalogue

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        partitions: dict[LogId, Partition],
        kept: OffsetCheckpoints,
        removal: Removal,
        forgotten: Callable[[Partition], None],
        complain: Complain,
    ) -> None:
        self.partitions = partitions
        self.nameless: dict[TopicPartition, Partition] = {}
        self._directory = directory
        self._disk = disk
        self._kept = kept
        self._removal = removal
        self._forgotten = forgotten
        self._complain = complain

    def load(self, *, clean: bool) -> None:
        """Find every partition in the directory."""
        recovery_points, starts, cleaned = self._kept.read()
        for name in self._disk.names(self._directory):
            folder = self._directory / name
            if not folder.is_dir():
                continue
            if is_set_aside(name, DELETED_SUFFIX):
                self._removal.add(folder, 0)
                continue
            key = parse_folder_name(name)
            if key is None:
                continue
            names = self._disk.names(folder)
            if not holds_log(names):
                continue
            names = settle(self._disk, folder, names)
            for deleted in filter(is_deleted_file, names):
                self._removal.add(folder / deleted, 0)
            topic_id = checkpoints.read_topic_id(self._disk, folder)
            log = LogId(key.topic, key.partition, topic_id or _UNKNOWN_TOPIC_ID)
            partition = recovery.load(
                self._disk,
                folder,
                log,
                LogSettings(),
                names=names,
                start_offset=starts.get(key, 0),
                recovery_point=recovery_points.get(key, 0),
                clean=clean,
            )
            partition.cleaned_to = cleaned.get(key, 0)
            if topic_id is None:
                self.nameless[key] = partition
            else:
                self.partitions[log] = partition

    def find(self, log: LogId) -> Partition | Error:
        """The log with its present settings; made now if it should be there and is not."""
        partition, catalogue = self.partitions.get(log), self.catalogue
        if partition is not None and partition.settings_version == catalogue.version:
            return partition
        settings = catalogue.settings(log)
        if partition is not None:
            if settings is not None:
                partition.settings, partition.settings_version = settings, catalogue.version
            return partition
        if settings is None:
            return Error.UNKNOWN_TOPIC_OR_PARTITION
        try:
            return self._make(log, settings)
        except OSError as failure:
            self._complain("%s: its log could not be made: %s", log, failure)
            return Error.KAFKA_STORAGE_ERROR

    def _make(self, log: LogId, settings: LogSettings) -> Partition:
        key = TopicPartition(log.topic, log.partition)
        partition = self.nameless.pop(key, None)
        if partition is not None:
            # A power cut took the file that names the topic id. The cluster's metadata says whose log this is.
            partition.log, partition.settings = log, settings
        else:
            folder = self._directory / str(log)
            if folder.exists():
                self._clear(folder, log)
            if key in self._kept.known:
                self._kept.write()
            self._disk.make_folder(folder)
            partition = Partition(self._disk, folder, log, settings, 0)
        checkpoints.write_topic_id(self._disk, partition.folder, log.topic_id)
        self.partitions[log] = partition
        return partition

    def _clear(self, folder: Path, log: LogId) -> None:
        """Have a namesake's folder out of the way: of a topic that is gone, or that nobody knows. Raises OSError."""
        topic_id = checkpoints.read_topic_id(self._disk, folder)
        names = self._disk.names(folder)
        if names and not holds_log(names):
            raise OSError(errno.EEXIST, "files that are not a log's are in its place", str(folder))
        if topic_id in (None, log.topic_id):
            return  # the beginning of this very log, which could not be made before
        namesake = log._replace(topic_id=topic_id)
        partition = self.partitions.get(namesake)
        if partition is not None:
            self._forget(partition)
        self._set_folder_aside(folder, DELETED_SUFFIX if self.catalogue.is_gone(namesake) else STRAY_SUFFIX)

    def delete(self, log: LogId) -> None:
        """The topic is gone: the log's files go when its file.delete.delay.ms is over."""
        partition = self.partitions.get(log)
        if partition is not None:
            self._forget(partition)
            self._try_to_set_aside(partition.folder, DELETED_SUFFIX, partition.settings.file_delete_delay_ms)

    def set_aside(self, log: LogId) -> None:
        """No topic has this log: its files are kept."""
        partition = self.partitions[log]
        self._forget(partition)
        self._try_to_set_aside(partition.folder, STRAY_SUFFIX)

    def set_nameless_aside(self) -> list[LogId]:
        """No topic wants these either: their files are kept; which they were."""
        strays = [partition.log for partition in self.nameless.values()]
        for partition in self.nameless.values():
            self._try_to_set_aside(partition.folder, STRAY_SUFFIX)
        self.nameless.clear()
        return strays

    def _forget(self, partition: Partition) -> None:
        """The log is no more, whatever becomes of its files."""
        del self.partitions[partition.log]
        self._kept.set_due()
        self._forgotten(partition)

    def _try_to_set_aside(self, folder: Path, suffix: str, delay_ms: int = 0) -> None:
        try:
            self._set_folder_aside(folder, suffix, delay_ms)
        except OSError as failure:
            # The next start, or the next topic of this name, tries again; meanwhile nobody looks there.
            self._complain("%s could not be set aside: %s", folder, failure)

    def _set_folder_aside(self, folder: Path, suffix: str, delay_ms: int = 0) -> None:
        target = self._directory / set_aside_name(folder.name, suffix)
        self._disk.rename(folder, target)
        if suffix == DELETED_SUFFIX:
            self._removal.add(target, delay_ms)
