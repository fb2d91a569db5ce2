"""Mends a log whose disk failed while it was written to or synced, once the disk takes writes again.

After a sync that failed the kernel calls pages clean that never reached the medium: another sync would succeed, and
mean nothing. So whatever is not known to be on the medium is written once more, from what can still be read, each batch
by its CRC, and then synced. What lies beyond the high watermark is cut off: its writers heard that it failed, and
coordinators have taken it back. Called by the store.
"""

from itertools import pairwise
from typing import Final

import trio

from kafkapy.records.batch import CorruptBatch, crc_matches, walk
from kafkapy.storage.embedded import recovery
from kafkapy.storage.embedded.checkpoints import write_epochs
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.names import offset_of
from kafkapy.storage.embedded.partition import Partition
from kafkapy.storage.embedded.segment import Segment

_PIECE_BYTES: Final = 1 << 20

_KINDS: Final = ("log", "index", "timeindex", "txnindex")


async def mend(disk: Disk, partition: Partition, now: float) -> Partition:
    """The log as it goes on from here, on the medium: another object where something had to be cut off.

    Raises OSError when the disk fails still, CorruptBatch when what was acknowledged cannot be read any more.
    """
    base, position = partition.end_of(partition.high_watermark)
    for segment, following in pairwise([*partition.segments, None]):
        assert segment is not None
        if segment.base_offset > base or (following is not None and following.base_offset <= partition.recovery_point):
            continue
        begin = segment.offset_index.around(max(partition.recovery_point - segment.base_offset, 0))[0]
        end = position if segment.base_offset == base else segment.size
        await trio.to_thread.run_sync(_write_again, disk, segment.path, begin, end)
    if partition.is_torn or partition.high_watermark < partition.head.end_offset:
        partition = _cut(disk, partition, base, position)
    later = [segment.base_offset for segment in partition.segments[1:]]
    partition.sealed_unsynced = [
        segment
        for segment, following_base in zip(partition.segments, later, strict=False)
        if following_base > partition.recovery_point
    ]
    for segment in [*partition.sealed_unsynced, *partition.segments[-1:]]:
        segment.offset_index.written_bytes = segment.time_index.written_bytes = 0
        segment.write_indexes()
        index = partition.segments.index(segment)
        if partition.aborted_in(index):
            partition.save_aborted(index)
    if partition.epochs:
        write_epochs(disk, partition.folder, partition.epochs)
    end_offset, paths = partition.begin_sync(now)
    await trio.to_thread.run_sync(disk.sync, paths)
    partition.synced(end_offset)
    partition.failed = False
    return partition


def _write_again(disk: Disk, path: str, begin: int, end: int) -> None:
    """Write what lies there once more; for worker threads. Raises CorruptBatch, OSError."""
    size = _PIECE_BYTES
    while begin < end:
        data = memoryview(disk.read_waiting(path, begin, min(size, end - begin)))
        whole = 0
        for at, header in walk(data):
            if not crc_matches(data, at, header):
                raise CorruptBatch(f"the batch at position {begin + at} of {path} fails its CRC")
            whole = at + header.size_bytes
        if whole:
            disk.write_again(path, data[:whole], begin)
            begin, size = begin + whole, _PIECE_BYTES
        elif len(data) < end - begin and len(data) == size:
            size *= 2  # a batch that is larger
        else:
            raise CorruptBatch(f"the batch at position {begin} of {path} is cut off")


def _cut(disk: Disk, partition: Partition, base: int, position: int) -> Partition:
    """The log up to this position of the segment with that base, as it is read after a crash."""
    folder = partition.folder
    for other in {offset_of(name, *_KINDS) for name in disk.names(folder)}:
        if other is not None and other > base:
            Segment(disk, folder, other).remove()
    for segment in partition.segments:
        if segment.base_offset == base:
            disk.truncate(segment.path, position)
    cut = recovery.load(
        disk,
        folder,
        partition.log,
        partition.settings,
        names=disk.names(folder),
        start_offset=partition.start_offset,
        recovery_point=min(partition.recovery_point, partition.high_watermark),
        clean=False,
    )
    cut.settings_version, cut.cleaned_to, cut.is_offline = partition.settings_version, partition.cleaned_to, True
    return cut
