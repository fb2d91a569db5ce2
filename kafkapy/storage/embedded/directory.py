"""A data directory: whose it is, and that one process has it. Opens the embedded store in it."""

import fcntl
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import trio

from kafkapy.clock import Clock
from kafkapy.config.properties import parse_properties
from kafkapy.model import format_uuid
from kafkapy.storage.embedded import checkpoints
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.store import EmbeddedLogs
from kafkapy.turns import Turns


class DirectoryInUse(Exception):
    """Another process has the data directory open."""


class DirectoryMismatch(Exception):
    """The directory belongs to another cluster or node."""


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
    Raises DirectoryInUse, DirectoryMismatch, OSError.
    """
    disk = disk or Disk()
    disk.make_folder(directory)
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
        stopped = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(logs.run)
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
                logs.leave_clean()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """The directory is this process's alone for the length of the block. Raises DirectoryInUse, OSError."""
    descriptor = os.open(directory / checkpoints.LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUse(f"{directory} is in use by another process") from None
        yield
    finally:
        os.close(descriptor)


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
    disk.write_file(path, "\n".join(lines).encode(), sync=True)
    disk.sync_folder(str(directory.absolute().parent))  # or all of it could be gone, and another cluster begin
    return cluster_id
