"""A data directory: whose it is, that one process has it, and that it stays. Opens the embedded store in it."""

import errno
import fcntl
import os
import struct
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.config.properties import parse_properties
from kafkapy.model import format_uuid
from kafkapy.storage.embedded import checkpoints
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.store import EmbeddedLogs
from kafkapy.turns import Turns

_LOOK_AFTER_SECONDS: Final = 5.0
"""So often it is seen whether the directory is still there; Kafka meets its loss as often, writing high watermarks."""

_OPEN_FILE_LOCK: Final = getattr(fcntl, "F_OFD_SETLK", None)
"""Keeps out Apache Kafka, whose lock is of this kind, and others in this process. Where there is none, as on macOS,
flock does both."""


class DirectoryInUse(Exception):
    """Another process has the data directory open."""


class DirectoryMismatch(Exception):
    """The directory belongs to another cluster or node."""


class DirectoryLost(Exception):
    """The directory was taken away from under the store."""


@asynccontextmanager
async def open_embedded(
    directory: Path,
    *,
    clock: Clock,
    node_id: int,
    cluster_id: str | None = None,
    disk: Disk | None = None,
    turns: Turns | None = None,
) -> AsyncIterator[EmbeddedLogs]:
    """Open the store in `directory`, which is created if need be.

    `cluster_id` None takes the directory's own, or makes one up; `turns` are those of the loop's other long work.
    Raises DirectoryInUse, DirectoryMismatch, OSError; and DirectoryLost, in a group, when the directory goes meanwhile.
    """
    disk = disk or Disk()
    disk.make_folder(directory, parents=True)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    with locked(directory), closing(disk):
        _refuse_metadata_snapshots(directory)
        cluster_id = _identify(disk, directory, node_id, cluster_id)
        clean_mark = directory / checkpoints.CLEAN_SHUTDOWN
        clean = disk.read_file(clean_mark) is not None
        if clean:
            disk.remove(str(clean_mark))
            disk.sync_folder(str(directory))  # a mark that came back after a power cut would be believed
        logs = EmbeddedLogs(directory, disk, clock, turns or Turns(), node_id, cluster_id)
        logs.load(clean=clean)
        presence = _Presence(disk, directory)
        stopped = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(logs.run)
                nursery.start_soon(presence.watch, logs, clock)
                try:
                    yield logs
                    stopped = True
                except trio.Cancelled:
                    stopped = True
                    raise
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            # After a broken invariant nothing is called clean: the next start reads the logs again.
            if stopped:
                presence.require()
                logs.leave_clean()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """The directory is this process's alone for the length of the block. Raises DirectoryInUse, OSError."""
    with _lock(directory, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX):
        yield


@contextmanager
def read_locked(directory: Path) -> Iterator[None]:
    """Nobody changes the directory for the length of the block; nothing is written. Raises DirectoryInUse, OSError."""
    if not (directory / checkpoints.LOCK).exists():  # Kafka removes its own when it stops
        yield
        return
    with _lock(directory, os.O_RDONLY, fcntl.LOCK_SH):
        yield


@contextmanager
def _lock(directory: Path, flags: int, kind: int) -> Iterator[None]:
    descriptor = os.open(directory / checkpoints.LOCK, flags, 0o644)
    try:
        try:
            if _OPEN_FILE_LOCK is None:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            else:
                how = fcntl.F_WRLCK if kind == fcntl.LOCK_EX else fcntl.F_RDLCK
                fcntl.fcntl(descriptor, _OPEN_FILE_LOCK, struct.pack("hhqqi", how, os.SEEK_SET, 0, 0, 0))
        except BlockingIOError:
            raise DirectoryInUse(f"{directory} is in use by another process") from None
        yield
    finally:
        os.close(descriptor)


class _Presence:
    """That the directory is the one that was opened."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self._disk = disk
        self._directory = directory
        self._opened = disk.identity(directory)

    async def watch(self, logs: EmbeddedLogs, clock: Clock) -> None:
        """Raise DirectoryLost when it is gone: seen now and then, and when the disk fails."""
        while True:
            with clock.until(clock.monotonic() + _LOOK_AFTER_SECONDS):
                await logs.trouble.wait()
            logs.trouble = trio.Event()
            self.require()

    def require(self) -> None:
        """Raise DirectoryLost if it is gone, emptied, or another one is in its place."""
        meta_properties = self._directory / checkpoints.META_PROPERTIES
        if self._disk.identity(self._directory) != self._opened or self._disk.identity(meta_properties) is None:
            raise DirectoryLost(f"the data directory {self._directory} was taken away; its broker ends")


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
    if present:
        known = present.get("cluster.id")
        # Version 0 is that of Kafka with ZooKeeper.
        node = present.get("broker.id" if present.get("version") == "0" else "node.id")
        if not known or node is None:
            raise DirectoryMismatch(f"{path} does not say whose the directory is: a cluster.id or a node.id is missing")
        if cluster_id is not None and cluster_id != known:
            raise DirectoryMismatch(f"{directory} belongs to cluster {known}, not to {cluster_id}")
        if node != str(node_id):
            raise DirectoryMismatch(f"{directory} belongs to node {node}, not to {node_id}")
        return known
    cluster_id = cluster_id or format_uuid(uuid.uuid4().bytes)
    directory_id = format_uuid(uuid.uuid4().bytes)
    lines = ["version=1", f"cluster.id={cluster_id}", f"node.id={node_id}", f"directory.id={directory_id}", ""]
    disk.write_file(path, "\n".join(lines).encode(), sync=True)
    disk.sync_folder(str(directory.absolute().parent))  # or all of it could be gone, and another cluster begin
    return cluster_id
