"""A disk that fails as rules say: what the embedded store writes, syncs and reads goes through it.

A rule of a topic is about files in the folders of that topic's partitions; one without is about all files, those of the
cluster's own metadata, too. Work in worker threads asks the rules in the event loop, whose they are.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import trio

from kafkapy.storage.embedded.files import Buffer, Disk
from kafkapy.storage.embedded.open_files import FileRegion
from kafkapy.testing.faults import DISK, Faults, Rule

_WRITE, _SYNC, _READ = DISK["DiskWrite"], DISK["DiskSync"], DISK["DiskRead"]


class FailingDisk(Disk):
    """The machine's file system, with faults."""

    def __init__(self, faults: Faults, max_open_files: int) -> None:
        super().__init__(max_open_files)
        self._faults = faults

    def append(self, path: str, buffers: Sequence[Buffer], size: int, position: int) -> None:
        self._meet(_WRITE, [path])
        super().append(path, buffers, size, position)

    def put(self, path: str, data: Buffer, position: int) -> None:
        self._meet(_WRITE, [path])
        super().put(path, data, position)

    def copy(self, source: str, target: str, position: int, size: int) -> None:
        self._meet(_WRITE, [target])
        super().copy(source, target, position, size)

    def write_again(self, path: str, data: Buffer, position: int) -> None:
        self._meet(_WRITE, [path])
        super().write_again(path, data, position)

    def write_file(self, path: Path, data: bytes, *, sync: bool = False) -> None:
        self._meet(_WRITE, [str(path)])
        super().write_file(path, data, sync=sync)

    def probe(self, folder: Path) -> None:
        self._meet(_WRITE, [str(folder / "probe")])
        super().probe(folder)

    def sync(self, paths: Sequence[str]) -> None:
        self._meet(_SYNC, paths)
        super().sync(paths)

    def read(self, path: str, position: int, size: int) -> bytes:
        self._meet(_READ, [path])
        return super().read(path, position, size)

    def read_cached(self, path: str, position: int, size: int, buffer: bytearray | None = None) -> memoryview | None:
        self._meet(_READ, [path])
        return super().read_cached(path, position, size, buffer)

    def region(self, path: str, position: int, size: int) -> FileRegion:
        self._meet(_READ, [path])
        return super().region(path, position, size)

    def _meet(self, work: int, paths: Iterable[str]) -> None:
        """Raise what a rule says that the disk says."""
        if self._faults.about(work):
            if trio.lowlevel.in_trio_run():
                self._fail(work, paths)
            else:
                trio.from_thread.run_sync(self._fail, work, paths)

    def _fail(self, work: int, paths: Iterable[str]) -> None:
        for rule in self._faults.about(work):
            for path in paths:
                if rule.takes(0, None) and _is_about(rule, path) and rule.strikes():
                    raise OSError(rule.disk_error, os.strerror(rule.disk_error), path)


def _is_about(rule: Rule, path: str) -> bool:
    if rule.topic is None:
        return True
    topic, _, partition = os.path.basename(os.path.dirname(path)).rpartition("-")
    return topic == rule.topic and rule.partition in (None, int(partition) if partition.isdigit() else None)
