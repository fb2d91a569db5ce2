"""The small text files of a data directory, in Kafka's formats."""

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from kafkapy.model import METADATA_TOPIC, TopicPartition, format_uuid, parse_uuid
from kafkapy.records.batch import checksum
from kafkapy.storage.base import Checkpoint
from kafkapy.storage.embedded.files import Disk

RECOVERY_POINTS: Final = "recovery-point-offset-checkpoint"
LOG_STARTS: Final = "log-start-offset-checkpoint"
HIGH_WATERMARKS: Final = "replication-offset-checkpoint"
CLEANED: Final = "cleaner-offset-checkpoint"
OFFSET_CHECKPOINTS: Final = (RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANED)
META_PROPERTIES: Final = "meta.properties"
PARTITION_METADATA: Final = "partition.metadata"
LEADER_EPOCHS: Final = "leader-epoch-checkpoint"
CLEAN_SHUTDOWN: Final = ".kafka_cleanshutdown"
COORDINATOR: Final = ("coordinator-checkpoint", "coordinator-checkpoint-2")
"""Two, so that none is touched before a later one is on the medium."""

MOVED: Final = ".kafkapy-moved"
"""In a log's folder: it has just been moved here, and is whole; where it lay before may not be gone yet."""

LOCK: Final = ".lock"

_SNAPSHOT: Final = re.compile(r"(\d{20})-\d{10}\.checkpoint")
_COORDINATOR_HEAD: Final = struct.Struct(">hIq")
_COORDINATOR_VERSION: Final = 0


def read_offsets(disk: Disk, path: Path) -> dict[TopicPartition, int]:
    """An offset checkpoint: version 0, a count, then `topic partition offset` lines. Empty when damaged or missing:
    every checkpoint only spares work."""
    lines = (disk.read_file(path) or b"").decode("utf-8", "replace").splitlines()
    offsets: dict[TopicPartition, int] = {}
    try:
        if lines and lines[0] == "0":
            for line in lines[2 : 2 + int(lines[1])]:
                topic, partition, offset = line.split(" ")
                offsets[TopicPartition(topic, int(partition))] = int(offset)
    except (ValueError, IndexError):
        return {}
    return offsets


def write_offsets(disk: Disk, path: Path, offsets: Mapping[TopicPartition, int]) -> None:
    """Write an offset checkpoint, which is on the medium then: it tells of all logs."""
    lines = [f"{key.topic} {key.partition} {offset}" for key, offset in offsets.items()]
    disk.write_file(path, "\n".join(["0", str(len(lines)), *lines, ""]).encode(), sync=True)


def read_epochs(disk: Disk, folder: Path) -> list[tuple[int, int]]:
    """A partition's leader epochs with their start offsets, oldest first; empty when damaged or missing."""
    lines = (disk.read_file(f"{folder}/{LEADER_EPOCHS}") or b"").decode("utf-8", "replace").splitlines()
    try:
        if lines and lines[0] == "0":
            rows = [line.split(" ") for line in lines[2 : 2 + int(lines[1])]]
            return [(int(epoch), int(offset)) for epoch, offset in rows]
    except (ValueError, IndexError):
        return []
    return []


def write_epochs(disk: Disk, folder: Path, epochs: list[tuple[int, int]]) -> None:
    """Write a partition's leader epochs."""
    lines = [f"{epoch} {offset}" for epoch, offset in epochs]
    disk.write_file(folder / LEADER_EPOCHS, "\n".join(["0", str(len(lines)), *lines, ""]).encode())


def read_topic_id(disk: Disk, folder: Path) -> bytes | None:
    """The topic id in a partition's folder; None when it is missing or damaged, as a power cut may leave it."""
    content = disk.read_file(f"{folder}/{PARTITION_METADATA}") or b""  # each log's: a Path more would show in a start
    for line in content.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "topic_id":
            try:
                return parse_uuid(value.strip())
            except ValueError:
                return None
    return None


def write_topic_id(disk: Disk, folder: Path, topic_id: bytes) -> None:
    """Write the topic id into a partition's folder."""
    disk.write_file(folder / PARTITION_METADATA, f"version: 0\ntopic_id: {format_uuid(topic_id)}".encode())


def read_coordinators(disk: Disk, folder: Path) -> list[Checkpoint]:
    """What a coordinator made of a log's beginning, the last one first; without what is damaged.

    Each is version 2 bytes, CRC-32C 4 (of what follows), offset 8, then the coordinator's own. Of the metadata log
    those of Apache Kafka are among them (KIP-630), as they are.
    """
    found = [*_coordinators(disk, folder).values(), *_snapshots(disk, folder)]
    return sorted(found, key=_offset, reverse=True)


def _snapshots(disk: Disk, folder: Path) -> Iterator[Checkpoint]:
    """Those of Kafka: the name says which offset comes behind. At offset 0 is what a cluster was formatted with, which
    stands in the log, too.
    """
    if folder.name.startswith(METADATA_TOPIC):
        for name in disk.names(folder):
            match = _SNAPSHOT.fullmatch(name)
            if match is not None and int(match[1]) > 0:
                yield Checkpoint(int(match[1]), disk.read_file(folder / name) or b"")


def _coordinators(disk: Disk, folder: Path) -> dict[Path, Checkpoint]:
    """Those that are whole, by their files."""
    found = {path: decode_coordinator(disk.read_file(path) or b"") for path in (folder / name for name in COORDINATOR)}
    return {path: checkpoint for path, checkpoint in found.items() if checkpoint is not None}


def decode_coordinator(content: bytes) -> Checkpoint | None:
    """What a file of one holds; None when it is damaged."""
    if len(content) < _COORDINATOR_HEAD.size:
        return None
    version, crc, offset = _COORDINATOR_HEAD.unpack_from(content)
    if version != _COORDINATOR_VERSION or checksum(memoryview(content)[6:]) != crc:
        return None
    return Checkpoint(offset, content[_COORDINATOR_HEAD.size :])


def write_coordinator(disk: Disk, folder: Path, checkpoint: Checkpoint) -> None:
    """Write what a coordinator made of a log's beginning; what it had made of less before stays."""
    there = _coordinators(disk, folder)
    before = [path for path, other in there.items() if other.offset < checkpoint.offset]
    keep = max(before, key=lambda path: there[path].offset, default=None)
    target = next(path for path in (folder / name for name in COORDINATOR) if path != keep)
    content = bytearray(_COORDINATOR_HEAD.pack(_COORDINATOR_VERSION, 0, checkpoint.offset)) + checkpoint.data
    _COORDINATOR_HEAD.pack_into(content, 0, _COORDINATOR_VERSION, checksum(memoryview(content)[6:]), checkpoint.offset)
    disk.write_file(target, bytes(content), sync=True)


def drop_coordinator(disk: Disk, folder: Path, checkpoint: Checkpoint) -> None:
    """Remove this one, if it is there. Raises OSError."""
    for path, other in _coordinators(disk, folder).items():
        if other == checkpoint:
            disk.remove(str(path))
    disk.sync_folder(str(folder))


def _offset(checkpoint: Checkpoint) -> int:
    return checkpoint.offset
