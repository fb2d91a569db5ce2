"""The logs of a store, as folders of its directories: found at the start, made, deleted and set aside.

Invariants
 1. A log has its folder, unless the disk refused: then it is tried again whenever somebody asks for it.
 2. A folder whose log is not known and not gone is set aside, never removed.
 3. No log is made while the checkpoints on disk still tell of a namesake's: it would inherit what they say.
 4. A log that may lie in a directory that could not be opened is not made anywhere else.

Called by the store, on the event loop.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from kafkapy.errors import Error
from kafkapy.model import METADATA_TOPIC, LogId, TopicPartition
from kafkapy.storage.base import Catalogue, LogSettings
from kafkapy.storage.embedded import checkpoints, empty_logs, recovery
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.log_directory import LogDirectory
from kafkapy.storage.embedded.names import (
    DELETED_SUFFIX,
    FUTURE_SUFFIX,
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

_NO_SETTINGS: Final = LogSettings()
"""Of a log that the catalogue was not asked about yet."""


class FoundTwice(Exception):
    """Two directories hold the same log; the text says which."""


class Shelf:
    """Which logs there are, in `partitions`, and in which of the directories, by their paths.

    The first directory is that of the metadata log. `forgotten` is told of a log that is no more.
    """

    catalogue: Catalogue

    def __init__(
        self,
        directories: Mapping[Path, LogDirectory],
        disk: Disk,
        partitions: dict[LogId, Partition],
        removal: Removal,
        forgotten: Callable[[Partition], None],
    ) -> None:
        self.partitions = partitions
        self._directories = directories
        self._disk = disk
        self._removal = removal
        self._forgotten = forgotten
        self.interrupted: list[tuple[LogId, LogDirectory]] = []
        """Logs whose move a stop interrupted, and where to."""
        self._out_of_reach: set[LogId] = set()
        self._marked: list[Path] = []
        """Folders of logs that had just been moved there when the broker stopped."""

    def home(self, partition: Partition) -> LogDirectory:
        """The directory that the log lies in."""
        return self._directories[partition.folder.parent]

    def load(self, home: LogDirectory, *, clean: bool) -> None:
        """Find every partition in the directory. Raises FoundTwice, OSError."""
        recovery_points, starts, cleaned = home.kept.read()
        empty, prefix = empty_logs.read(self._disk, home.path) if clean else {}, f"{home.path}/"
        for name in self._disk.folder_names(home.path):
            folder = home.path / name
            if (found := empty.get(name)) is not None and found.modified_ms == self._disk.modified_ms(prefix + name):
                self._take(home, Partition(self._disk, folder, found.log, _NO_SETTINGS, 0), is_marked=False)
                continue
            key = parse_folder_name(name)
            if key is None:
                if is_set_aside(name, DELETED_SUFFIX):
                    self._removal.add(folder, 0)
                elif is_set_aside(name, FUTURE_SUFFIX):
                    self._note_interrupted(home, folder)
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
                _NO_SETTINGS,
                names=names,
                start_offset=starts.get(key, 0),
                recovery_point=recovery_points.get(key, 0),
                clean=clean,
            )
            partition.cleaned_to = min(cleaned.get(key, 0), partition.head.end_offset)  # or damage has cut it since
            if topic_id is None:
                home.nameless[key] = partition
            else:
                self._take(home, partition, is_marked=checkpoints.MOVED in names)

    def _take(self, home: LogDirectory, partition: Partition, *, is_marked: bool) -> None:
        """A log was found in the directory; `is_marked`: it had just been moved there. Raises FoundTwice, OSError."""
        log, folder = partition.log, partition.folder
        if is_marked:
            self._marked.append(folder)
        if (other := self.partitions.get(log)) is None:
            self._add(home, partition)
        elif is_marked:
            self._forget(other)
            self._set_folder_aside(self.home(other), other.folder, DELETED_SUFFIX)
            self._add(home, partition)
        elif other.folder in self._marked:
            self._set_folder_aside(home, folder, DELETED_SUFFIX)
        else:
            raise FoundTwice(f"{log} lies in {folder} and in {other.folder}; remove the one that is not wanted")

    def _note_interrupted(self, home: LogDirectory, folder: Path) -> None:
        """It is moved again, from the start."""
        key, topic_id = parse_folder_name(folder.name.rpartition(".")[0]), checkpoints.read_topic_id(self._disk, folder)
        if key is not None and topic_id is not None:
            self.interrupted.append((LogId(key.topic, key.partition, topic_id), home))
        self._removal.add(folder, 0)

    def loaded(self) -> None:
        """All directories have been looked through."""
        for folder in self._marked:
            self._disk.remove(str(folder / checkpoints.MOVED))  # unless it was set aside, mark and all
        self._marked.clear()

    def note_out_of_reach(self, logs: Iterable[LogId]) -> None:
        """Of these logs, those that are not here lie in a directory that could not be opened, if there is one."""
        if any(home.is_lost for home in self._directories.values()):
            self._out_of_reach.update(log for log in logs if log not in self.partitions)

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
        home = None if log in self._out_of_reach else self._place(log)
        if home is None:
            return Error.KAFKA_STORAGE_ERROR
        try:
            return self._make(home, log, settings)
        except OSError as failure:
            home.complain(failure, "%s: its log could not be made: %s", log, failure)
            return Error.KAFKA_STORAGE_ERROR

    def _place(self, log: LogId) -> LogDirectory | None:
        """Where to make the log: as in Kafka, where the fewest are. None when no directory takes writes."""
        for home in self._directories.values():
            if TopicPartition(log.topic, log.partition) in home.nameless:
                return home
        first, *_ = self._directories.values()
        if log.topic == METADATA_TOPIC:
            return None if first.offline else first
        live = [home for home in self._directories.values() if not home.offline and not home.only_metadata]
        return min(live, key=LogDirectory.log_count, default=None)

    def _make(self, home: LogDirectory, log: LogId, settings: LogSettings) -> Partition:
        key = TopicPartition(log.topic, log.partition)
        partition = home.nameless.pop(key, None)
        if partition is not None:
            # A power cut took the file that names the topic id. The cluster's metadata says whose log this is.
            partition.log, partition.settings = log, settings
            checkpoints.write_topic_id(self._disk, partition.folder, log.topic_id)
        else:
            partition = self._begin(home, log, settings)
        self._add(home, partition)
        return partition

    def _begin(self, home: LogDirectory, log: LogId, settings: LogSettings) -> Partition:
        """An empty log; nothing is left of it when the disk refuses. Raises OSError."""
        folder = home.path / str(log)
        if folder.exists():
            self._clear(home, folder, log)
        if TopicPartition(log.topic, log.partition) in home.kept.known:
            home.kept.write()
        is_new = not folder.exists()
        self._disk.make_folder(folder)
        try:
            checkpoints.write_topic_id(self._disk, folder, log.topic_id)
        except OSError:
            if is_new:
                self._disk.remove_set_aside(folder)
            raise
        return Partition(self._disk, folder, log, settings, 0)

    def _add(self, home: LogDirectory, partition: Partition) -> None:
        home.add(partition)
        self.partitions[partition.log] = partition

    def replace(self, partition: Partition, by: Partition) -> None:
        """The same log is read anew."""
        home = self.home(partition)
        self._forgotten(partition)
        self._add(home, by)

    def settle_in(self, partition: Partition, target: LogDirectory, folder: Path) -> None:
        """The log lies in this folder of the target now; where it was goes."""
        home, old = self.home(partition), partition.folder
        partition.relocate(folder)
        partition.is_marked = True
        del home.partitions[partition.log]
        target.add(partition)
        home.kept.set_due()
        self._try_to_set_aside(home, old, DELETED_SUFFIX, partition.settings.file_delete_delay_ms)

    def _clear(self, home: LogDirectory, folder: Path, log: LogId) -> None:
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
        self._set_folder_aside(home, folder, DELETED_SUFFIX if self.catalogue.is_gone(namesake) else STRAY_SUFFIX)

    def delete(self, log: LogId) -> None:
        """The topic is gone: the log's files go when its file.delete.delay.ms is over."""
        self._out_of_reach.discard(log)
        partition = self.partitions.get(log)
        if partition is not None:
            self._forget(partition)
            delay_ms = partition.settings.file_delete_delay_ms
            self._try_to_set_aside(self.home(partition), partition.folder, DELETED_SUFFIX, delay_ms)

    def set_aside(self, log: LogId) -> None:
        """No topic has this log: its files are kept."""
        partition = self.partitions[log]
        self._forget(partition)
        self._try_to_set_aside(self.home(partition), partition.folder, STRAY_SUFFIX)

    def set_nameless_aside(self) -> list[LogId]:
        """No topic wants these either: their files are kept; which they were."""
        strays = []
        for home in self._directories.values():
            for partition in home.nameless.values():
                strays.append(partition.log)
                self._try_to_set_aside(home, partition.folder, STRAY_SUFFIX)
            home.nameless.clear()
        return strays

    def _forget(self, partition: Partition) -> None:
        """The log is no more, whatever becomes of its files."""
        home = self.home(partition)
        del self.partitions[partition.log], home.partitions[partition.log]
        home.kept.set_due()
        self._forgotten(partition)

    def _try_to_set_aside(self, home: LogDirectory, folder: Path, suffix: str, delay_ms: int = 0) -> None:
        try:
            self._set_folder_aside(home, folder, suffix, delay_ms)
        except OSError as failure:
            # The next start, or the next topic of this name, tries again; meanwhile nobody looks there.
            home.complain(failure, "%s could not be set aside: %s", folder, failure)

    def _set_folder_aside(self, home: LogDirectory, folder: Path, suffix: str, delay_ms: int = 0) -> None:
        target = home.path / set_aside_name(folder.name, suffix)
        self._disk.rename(folder, target)
        if suffix == DELETED_SUFFIX:
            self._removal.add(target, delay_ms)
