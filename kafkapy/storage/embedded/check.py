"""The checker behind `kafkapy check`: reads a data directory, changes nothing, and names every broken invariant.

Run it on a directory that no broker uses. It checks what docs/storage_format.md promises: folders and their names,
every batch's length, CRC and order, offsets without overlap between segments, indexes that rise and point at batches,
epochs that rise, snapshots that can be read.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from kafkapy.records.batch import CorruptBatch, crc_matches, read_header
from kafkapy.records.record import iterate_records
from kafkapy.storage.aborted import ROW_SIZE, decode_rows
from kafkapy.storage.embedded import checkpoints
from kafkapy.storage.embedded.directory import read_locked
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.index import OffsetIndex, TimeIndex
from kafkapy.storage.embedded.names import (
    DELETED_SUFFIX,
    FUTURE_SUFFIX,
    STRAY_SUFFIX,
    holds_log,
    is_set_aside,
    parse_folder_name,
)
from kafkapy.storage.producer_snapshot import decode_snapshot


class Finding(NamedTuple):
    """Something that is not as it must be, and where."""

    path: str
    problem: str


class NotADataDirectory(Exception):
    """There is no data directory of Kafka's layout there; the text says so."""


def check(directory: Path) -> Iterator[Finding]:
    """Every broken invariant under `directory`. Raises NotADataDirectory, DirectoryInUse, OSError."""
    disk = Disk()
    if not directory.is_dir():
        raise NotADataDirectory(f"{directory} is not a directory")
    if disk.read_file(directory / checkpoints.META_PROPERTIES) is None:
        raise NotADataDirectory(f"{directory} is not a data directory: there is no {checkpoints.META_PROPERTIES}")
    try:
        with read_locked(directory):
            yield from _check_directory(disk, directory)
    finally:
        disk.close()


def _check_directory(disk: Disk, directory: Path) -> Iterator[Finding]:
    for name in sorted(disk.names(directory)):
        folder = directory / name
        if folder.is_dir() and not is_set_aside(name, DELETED_SUFFIX, STRAY_SUFFIX, FUTURE_SUFFIX):
            if parse_folder_name(name) is None:
                yield Finding(str(folder), "the name is not of the form <topic>-<partition>")
            elif not holds_log(disk.names(folder)):
                yield Finding(str(folder), "holds no log")
            else:
                yield from _check_partition(disk, folder)


def _check_partition(disk: Disk, folder: Path) -> Iterator[Finding]:
    if checkpoints.read_topic_id(disk, folder) is None:
        yield Finding(str(folder / checkpoints.PARTITION_METADATA), "the topic id is missing or not readable")
    epochs = checkpoints.read_epochs(disk, folder)
    if not epochs and disk.read_file(folder / checkpoints.LEADER_EPOCHS) is not None:
        yield Finding(str(folder / checkpoints.LEADER_EPOCHS), "the epochs are not readable")
    for before, after in pairwise(epochs):
        if after[0] <= before[0] or after[1] < before[1]:
            yield Finding(str(folder / checkpoints.LEADER_EPOCHS), f"epoch {after} does not follow {before}")
    names = sorted(disk.names(folder))
    for name in checkpoints.COORDINATOR:
        content = disk.read_file(folder / name)
        if content is not None and checkpoints.decode_coordinator(content) is None:
            yield Finding(str(folder / name), "is damaged: the log is replayed from the other one, or its beginning")
    expected = 0
    for name in names:
        if name.endswith(".log") and not name[:-4].isdecimal():
            yield Finding(str(folder / name), "the name is not an offset")
        elif name.endswith(".log"):
            base = int(name[:-4])
            if base < expected:
                yield Finding(str(folder / name), f"begins at offset {base}, inside of the segment before ({expected})")
            positions: dict[int, int] = {}
            yield from _check_segment(disk, folder / name, base, positions)
            expected = max(expected, base, *(last + 1 for last in positions.values()))
            yield from _check_indexes(disk, folder, name[:-4], base, positions)
        elif name.endswith(".snapshot"):
            try:
                decode_snapshot((folder / name).read_bytes())
            except ValueError as damage:
                yield Finding(str(folder / name), str(damage))
        elif name.endswith(".txnindex"):
            rows = (folder / name).read_bytes()
            try:
                list(decode_rows(rows))
            except ValueError as damage:
                yield Finding(str(folder / name), str(damage))
            if len(rows) % ROW_SIZE:
                yield Finding(str(folder / name), "the last row is torn")


def _check_segment(disk: Disk, path: Path, base: int, positions: dict[int, int]) -> Iterator[Finding]:
    """Check every batch; `positions` receives where each begins, and its last offset."""
    data = disk.read_file(path) or b""
    position, expected = 0, base
    while position < len(data):
        try:
            header = read_header(data, position)
            if header.size_bytes > len(data) - position:
                yield Finding(str(path), f"position {position}: the last batch is torn")
                return
            if not crc_matches(data, position, header):
                yield Finding(str(path), f"position {position}: offset {header.base_offset} fails its CRC")
            elif sum(1 for _ in iterate_records(data[position : position + header.size_bytes])) != header.record_count:
                yield Finding(str(path), f"position {position}: the record count is wrong")
        except CorruptBatch as damage:
            yield Finding(str(path), f"position {position}: {damage}")
            return
        if header.base_offset < expected:
            yield Finding(str(path), f"position {position}: offset {header.base_offset} where {expected} was due")
        positions[position] = header.last_offset
        expected = header.next_offset
        position += header.size_bytes


def _check_indexes(disk: Disk, folder: Path, name: str, base: int, positions: dict[int, int]) -> Iterator[Finding]:
    end = max(positions, default=0) + 1
    rows = disk.read_file(folder / f"{name}.index")
    if rows is not None:
        try:
            for relative, position in OffsetIndex.decode(rows, end).rows():
                if positions.get(position) != base + relative:
                    yield Finding(str(folder / f"{name}.index"), f"row ({relative}, {position}) names no batch")
        except ValueError as damage:
            yield Finding(str(folder / f"{name}.index"), str(damage))
    rows = disk.read_file(folder / f"{name}.timeindex")
    if rows is not None:
        try:
            TimeIndex.decode(rows)
        except ValueError as damage:
            yield Finding(str(folder / f"{name}.timeindex"), str(damage))
