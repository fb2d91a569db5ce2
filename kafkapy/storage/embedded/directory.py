"""Data directories: whose they are, that one process has them, and that they stay. Opens the embedded store in them."""

import errno
import fcntl
import logging
import os
import struct
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.config.properties import parse_properties
from kafkapy.model import format_uuid
from kafkapy.storage.embedded import checkpoints
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.log_directory import LogDirectory
from kafkapy.storage.embedded.shelf import FoundTwice
from kafkapy.storage.embedded.store import EmbeddedLogs
from kafkapy.turns import Turns

_log = logging.getLogger(__name__)

_LOOK_AFTER_SECONDS: Final = 5.0
"""So often it is seen whether a directory is still there; Kafka meets its loss as often, writing high watermarks."""

_OPEN_FILE_LOCK: Final = getattr(fcntl, "F_OFD_SETLK", None)
"""Keeps out Apache Kafka, whose lock is of this kind, and others in this process. Where there is none, as on macOS,
flock does both."""


class DirectoryInUse(Exception):
    """Another process has the data directory open."""


class DirectoryMismatch(Exception):
    """The directory belongs to another cluster or node, or not beside the others."""


class DirectoryLost(Exception):
    """The directory was taken away from under the store, which cannot be without it."""


@asynccontextmanager
async def open_embedded(
    *paths: Path,
    clock: Clock,
    node_id: int,
    metadata_path: Path | None = None,
    cluster_id: str | None = None,
    disk: Disk | None = None,
    turns: Turns | None = None,
) -> AsyncIterator[EmbeddedLogs]:
    """Open the store in these directories, which are created if need be.

    The metadata log lies in the one of `metadata_path`, or else in the first: without that one nothing goes. Another
    one that cannot be used is offline, and its logs with it. `cluster_id` None takes that of the directories, or makes
    one up; `turns` are those of the loop's other long work. Raises DirectoryInUse, DirectoryMismatch, OSError; and
    DirectoryLost, in a group, when that one, or every other one, goes meanwhile.
    """
    disk = disk or Disk()
    first = metadata_path or paths[0]
    is_apart = first not in paths
    paths = (first, *(path for path in dict.fromkeys(paths) if path != first))
    with ExitStack() as stack:
        stack.enter_context(closing(disk))
        failures: dict[Path, OSError] = {}
        for path in paths:
            try:
                _enter(stack, disk, path)
            except OSError as failure:
                if path == first or len(paths) == 1 + is_apart:
                    raise
                failures[path] = failure
        usable = [path for path in paths if path not in failures]
        cluster_id = _identify_all(disk, usable, node_id, cluster_id)
        logs = EmbeddedLogs(paths, disk, clock, turns or Turns(), node_id, cluster_id, is_apart=is_apart)
        directories = logs.directories.values()
        for directory in directories:
            if (unusable := failures.get(directory.path)) is not None:
                directory.lose(str(unusable))
            else:
                _load(logs, disk, directory)
        logs.loaded()
        stopped = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(logs.run)
                for directory in directories:
                    nursery.start_soon(_watch, logs, directory, clock)
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
                _require(logs)
                for directory in directories:
                    if not directory.is_lost:
                        logs.leave_clean(directory)


def _enter(stack: ExitStack, disk: Disk, path: Path) -> None:
    """Have the directory, and nobody else. Raises DirectoryInUse, OSError."""
    disk.make_folder(path, parents=True)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    stack.enter_context(locked(path))


def _load(logs: EmbeddedLogs, disk: Disk, directory: LogDirectory) -> None:
    clean_mark = directory.path / checkpoints.CLEAN_SHUTDOWN
    clean = disk.read_file(clean_mark) is not None
    if clean:
        disk.remove(str(clean_mark))
        disk.sync_folder(str(directory.path))  # a mark that came back after a power cut would be believed
    try:
        logs.load(directory, clean=clean)
    except FoundTwice as problem:
        raise DirectoryMismatch(str(problem)) from problem
    except OSError as failure:
        if directory is next(iter(logs.directories.values())):
            raise
        directory.lose(str(failure))


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


async def _watch(logs: EmbeddedLogs, directory: LogDirectory, clock: Clock) -> None:
    """See now and then whether the directory is still there, and when the disk fails. Raises DirectoryLost."""
    while not directory.is_lost:
        with clock.until(clock.monotonic() + _LOOK_AFTER_SECONDS):
            await directory.trouble.wait()
        directory.trouble = trio.Event()
        _require(logs)


def _require(logs: EmbeddedLogs) -> None:
    """Give up directories that are gone, emptied, or that have another one in their place.

    Raises DirectoryLost when the first one, or every other one, is among them.
    """
    for directory in logs.directories.values():
        if not directory.is_lost and not directory.is_there():
            directory.lose("it was taken away")
    first, *_ = logs.directories.values()
    lost = [directory for directory in logs.directories.values() if directory.is_lost]
    if first.is_lost or all(directory.is_lost or directory.only_metadata for directory in logs.directories.values()):
        raise DirectoryLost(f"the data directory {lost[0].path} was taken away; its broker ends")


def _identify_all(disk: Disk, paths: Sequence[Path], node_id: int, cluster_id: str | None) -> str:
    """Check or write each directory's meta.properties; the cluster id that holds."""
    known: dict[Path, dict[str, str]] = {}
    for path in paths:
        properties = _read_properties(disk, path)
        if properties:
            cluster_id = _checked(path, properties, node_id, cluster_id)
            known[path] = properties
    directory_ids = [properties.get("directory.id") for properties in known.values()]
    for path, directory_id in zip(known, directory_ids, strict=True):
        if directory_id is not None and directory_ids.count(directory_id) > 1:
            raise DirectoryMismatch(f"{path} has the directory.id of another data directory: it is a copy")
    cluster_id = cluster_id or format_uuid(uuid.uuid4().bytes)
    for path in paths:
        if path not in known:
            _write_properties(disk, path, node_id, cluster_id)
    return cluster_id


def _read_properties(disk: Disk, directory: Path) -> dict[str, str]:
    content = disk.read_file(directory / checkpoints.META_PROPERTIES) or b""
    return parse_properties(content.decode("utf-8", "replace"))


def _checked(directory: Path, properties: dict[str, str], node_id: int, cluster_id: str | None) -> str:
    """The directory's cluster id, which must be this one, if it is known already. Raises DirectoryMismatch."""
    known = properties.get("cluster.id")
    # Version 0 is that of Kafka with ZooKeeper.
    node = properties.get("broker.id" if properties.get("version") == "0" else "node.id")
    if not known or node is None:
        path = directory / checkpoints.META_PROPERTIES
        raise DirectoryMismatch(f"{path} does not say whose the directory is: a cluster.id or a node.id is missing")
    if cluster_id is not None and cluster_id != known:
        raise DirectoryMismatch(f"{directory} belongs to cluster {known}, not to {cluster_id}")
    if node != str(node_id):
        raise DirectoryMismatch(f"{directory} belongs to node {node}, not to {node_id}")
    return known


def _write_properties(disk: Disk, directory: Path, node_id: int, cluster_id: str) -> None:
    directory_id = format_uuid(uuid.uuid4().bytes)
    lines = ["version=1", f"cluster.id={cluster_id}", f"node.id={node_id}", f"directory.id={directory_id}", ""]
    disk.write_file(directory / checkpoints.META_PROPERTIES, "\n".join(lines).encode(), sync=True)
    disk.sync_folder(str(directory.absolute().parent))  # or all of it could be gone, and another cluster begin
