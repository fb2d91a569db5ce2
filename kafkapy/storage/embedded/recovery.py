"""Brings a partition's log back from disk.

After a clean stop the index files and the producer snapshot are trusted, and only the last batches are looked at. After
a crash everything from the recovery point on is read again: a batch that is torn, fails its CRC or does not follow the
one before it ends the log there; indexes and producer state are rebuilt. Source: the rules of Kafka's log recovery.
"""

import logging
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from kafkapy.model import LogId
from kafkapy.records.batch import CRC_FROM, HEADER_SIZE, LOG_OVERHEAD, BatchHeader, CorruptBatch, checksum, read_header
from kafkapy.records.control import header_view
from kafkapy.storage.aborted import AbortedRow, decode_rows
from kafkapy.storage.base import LogSettings
from kafkapy.storage.embedded.checkpoints import LEADER_EPOCHS, read_epochs, write_epochs
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.index import OffsetIndex, TimeIndex
from kafkapy.storage.embedded.names import offset_name, offset_of
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.segment import Segment
from kafkapy.storage.producer_snapshot import decode_snapshot

_log = logging.getLogger(__name__)

_VERIFY_SIZE_BYTES: Final = 1 << 20


def load(
    disk: Disk,
    folder: Path,
    log: LogId,
    settings: LogSettings,
    *,
    names: list[str],
    start_offset: int,
    recovery_point: int,
    clean: bool,
) -> Partition:
    """The partition in `folder`, whose entries are `names`."""
    bases = sorted(base for name in names if (base := offset_of(name, "log")) is not None)
    partition = Partition(disk, folder, log, settings, max(start_offset, bases[0] if bases else 0))
    if not clean:
        # What the process before had written may not be synced, nor the entries that lead there.
        disk.note_change(str(folder))
        disk.note_change(str(folder.parent))
    hidden = max(bisect_right(bases, start_offset) - 1, 0)
    for base in bases[:hidden]:
        Segment(disk, folder, base).remove()  # dropped before the stop, and not yet removed: not all need be there
    del bases[:hidden]
    _remove_orphans(disk, folder, names, bases)
    if not bases:
        return partition
    intact = whole = True
    for base, following in zip(bases, [*bases[1:], None], strict=True):
        segment = Segment(disk, folder, base)
        if not intact:
            _log.warning("%s: removed the segment at offset %d, which follows a damaged one", log, base)
            segment.remove()
            whole = False
            continue
        size = disk.size(segment.path)
        trusted = clean or (following is not None and following <= recovery_point)
        sealed = following is not None
        if trusted and _load_indexes(disk, segment, size) and (sealed or _tail_is_whole(segment)):
            partition.add_segment(segment)
            continue
        if trusted and sealed:
            end, ends_before = size, None
            try:
                segment.index_anew(end, settings.index_interval_bytes)
            except CorruptBatch as damage:
                _log.error("%s: the segment at offset %d cannot be read to its end: %s", log, base, damage)
        else:
            end, ends_before = _index_what_is_sound(disk, segment, size, settings.index_interval_bytes)
        if end < size:
            _log.warning("%s: cut %d bytes of a torn tail at offset %d", log, size - end, base)
            intact, whole = not sealed, False
        elif sealed and ends_before not in (None, following):
            _log.warning("%s: the offsets from %d to %d are lost", log, ends_before, following)
            intact = whole = False
        disk.truncate(segment.path, end)  # in any case: what was allocated ahead is still there
        if sealed:
            segment.save_indexes()  # a sealed segment is not written again at the next stop
        else:
            segment.write_indexes()
        if trusted and sealed:
            disk.sync(segment.paths())  # no later sync would take along what is trusted already
        partition.add_segment(segment)
    _load_state(disk, partition, names, recovery_point, clean=clean)
    if not whole:
        # What was cut or removed must not come back with a power cut, beside what is written in its place.
        disk.sync([partition.active.path])
        disk.sync_folder(str(folder))
    partition.recovery_point = partition.head.end_offset if clean else min(recovery_point, partition.head.end_offset)
    partition.high_watermark = partition.head.end_offset
    partition.unflushed_count = partition.head.end_offset - partition.recovery_point
    if partition.unflushed_count:
        partition.sealed_unsynced = [
            segment for segment, later in pairwise(partition.segments) if later.base_offset > recovery_point
        ]
    partition.start_offset = min(partition.start_offset, partition.head.end_offset)
    return partition


def _remove_orphans(disk: Disk, folder: Path, names: list[str], bases: list[int]) -> None:
    """Remove what belongs to segments that a power cut took; of a log without any, all that was derived from it."""
    for name in names:
        of_segment = offset_of(name, "index", "timeindex", "txnindex") not in (None, *bases)
        of_nothing = not bases and (name == LEADER_EPOCHS or offset_of(name, "snapshot") is not None)
        if of_segment or of_nothing:
            disk.remove(f"{folder}/{name}")


def _load_indexes(disk: Disk, segment: Segment, size: int) -> bool:
    """Take the index files if they are whole, and what else the segment knows about itself."""
    offsets, times = map(disk.read_file, segment.index_paths())
    if offsets is None or times is None or (size and not times):
        return False
    try:
        segment.offset_index = OffsetIndex.decode(offsets, size)
        segment.time_index = TimeIndex.decode(times)
        if size:
            segment.first_timestamp = read_header(disk.read(segment.path, 0, HEADER_SIZE)).max_timestamp
    except (ValueError, CorruptBatch) as damage:
        _log.warning("rebuilding the indexes of %s: %s", segment.path, damage)
        return False
    if (last := segment.time_index.last()) is not None:
        segment.max_timestamp = last.timestamp
        segment.max_timestamp_offset = segment.base_offset + last.relative_offset
    segment.size = size
    return True


def _tail_is_whole(segment: Segment) -> bool:
    """Whether batches fill the file from the last index row to its end, and the indexes tell of none beyond."""
    end, last_offset = segment.offset_index.last_position(), segment.base_offset
    try:
        for position, header in segment.scan(end):
            end, last_offset = position + header.size_bytes, header.last_offset
    except CorruptBatch:
        return False
    return end == segment.size and segment.max_timestamp_offset <= last_offset


def _index_what_is_sound(disk: Disk, segment: Segment, size: int, index_interval_bytes: int) -> tuple[int, int | None]:
    """Take the segment's whole, sound batches in order into new indexes; the position and the offset after them.

    No offset when others are missing before: Kafka has compacted the segment, and what follows need not follow closely.
    """
    segment.begin_indexes()
    position, expected, is_dense = 0, segment.base_offset, True
    chunk, start = memoryview(b""), 0
    while size - position >= HEADER_SIZE:
        if position - start + HEADER_SIZE > len(chunk):
            chunk, start = memoryview(disk.read(segment.path, position, _VERIFY_SIZE_BYTES)), position
        try:
            header = read_header(chunk, position - start)
        except CorruptBatch:
            break
        base_offset, batch_length, _, _, crc, _, last_offset_delta, _, max_timestamp, _, _, _, _ = header
        batch_size = LOG_OVERHEAD + batch_length
        if batch_size > size - position or base_offset < expected or last_offset_delta < 0:
            break
        if position - start + batch_size > len(chunk):
            wanted = max(_VERIFY_SIZE_BYTES, batch_size)
            chunk, start = memoryview(disk.read(segment.path, position, wanted)), position
        at = position - start
        if checksum(chunk[at + CRC_FROM : at + batch_size]) != crc:
            break
        last_offset = base_offset + last_offset_delta
        is_dense = is_dense and base_offset == expected
        segment.note(position, batch_size, last_offset, max_timestamp, index_interval_bytes)
        position += batch_size
        expected = last_offset + 1
    segment.size = position
    return position, expected if is_dense else None


def _load_state(disk: Disk, partition: Partition, names: list[str], recovery_point: int, *, clean: bool) -> None:
    """The end offset, producers, epochs and aborted transactions."""
    end = _end_offset(partition)
    epochs_on_disk = read_epochs(disk, partition.folder)
    partition.epochs = [row for row in epochs_on_disk if row[1] <= end]
    partition.head.end_offset = end
    on_disk: list[list[AbortedRow]] = []
    for segment in partition.segments:
        rows: list[AbortedRow] = []
        name = f"{offset_name(segment.base_offset)}.txnindex"
        data = disk.read_file(f"{partition.folder}/{name}") if name in names else None
        try:
            for row in decode_rows(data or b""):
                rows.append(row)  # noqa: PERF402 - those before the damage count
        except ValueError as damage:
            _log.warning("%s: a transaction index is damaged: %s", partition.log, damage)
        on_disk.append(rows)
        partition.aborted += [row for row in rows if row.last_offset < end]
    # What a power cut may have taken of the transaction indexes is found by replaying from the recovery point on.
    newest = end if clean else min(end, max(recovery_point, partition.segments[0].base_offset))
    begin = _restore_snapshot(disk, partition, names, newest)
    if not partition.epochs and begin > partition.segments[0].base_offset:
        begin = partition.segments[0].base_offset  # the epochs must be learned from the batches
        partition.head.restore({}, begin)
    known_aborted = {row.last_offset for row in partition.aborted}
    for header in _headers_from(partition, begin, end):
        if not partition.epochs or header.leader_epoch > partition.epochs[-1][0]:
            partition.epochs.append((header.leader_epoch, header.base_offset))
        aborted = partition.head.replay(header)
        if aborted is not None and aborted.last_offset not in known_aborted:
            partition.aborted.append(aborted)
    partition.head.end_offset = end
    if not partition.epochs:
        disk.remove(str(partition.folder / LEADER_EPOCHS))  # a log without batches: what is there says nothing
    elif partition.epochs != epochs_on_disk:
        write_epochs(disk, partition.folder, partition.epochs)
    partition.aborted.sort(key=lambda row: row.last_offset)
    for index, rows in enumerate(on_disk):
        if rows != partition.aborted_in(index):
            partition.save_aborted(index)  # once a newer snapshot is there, these batches are not replayed again


def _end_offset(partition: Partition) -> int:
    segment = partition.active
    end = max(segment.base_offset, partition.start_offset)
    for _, header in segment.scan(segment.offset_index.last_position()):
        end = header.next_offset
    return end


def _restore_snapshot(disk: Disk, partition: Partition, names: list[str], newest: int) -> int:
    """Begin from the last producer snapshot up to `newest`, and remove all others; the offset to replay from.

    One from before the first segment, which is of a dropped one, counts for nothing: what ended a transaction that it
    calls open may have been dropped, too, and no marker to come would end it.
    """
    begin, first_base = None, partition.segments[0].base_offset
    snapshots = [offset for name in names if (offset := offset_of(name, "snapshot")) is not None]
    for offset in sorted(snapshots, reverse=True):
        path = f"{partition.folder}/{offset_name(offset)}.snapshot"
        if begin is None and first_base <= offset <= newest:
            try:
                partition.head.restore(decode_snapshot(disk.read_file(path) or b""), offset)
            except ValueError as damage:
                _log.warning("%s: %s", partition.log, damage)
            else:
                begin = offset
                continue
        disk.remove(path)
    if begin is None:
        begin = first_base
        partition.head.restore({}, begin)
    return begin


def _headers_from(partition: Partition, begin: int, end: int) -> Iterator[BatchHeader]:
    """The headers of the batches in [begin, end), as sequencing takes them."""
    if begin >= end:
        return
    following = [segment.base_offset for segment in partition.segments[1:]]
    for segment, next_base in zip(partition.segments, [*following, end + 1], strict=True):
        if next_base <= begin:
            continue
        try:
            for position, header in segment.scan(segment.offset_index.around(begin - segment.base_offset)[0]):
                if header.base_offset >= begin:
                    yield header_view(header, segment.read_batch(position, header)) if header.is_control else header
        except CorruptBatch as damage:
            _log.error("%s: damaged within %s: %s", partition.log, segment.path, damage)
