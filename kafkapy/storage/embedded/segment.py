"""One segment: a log file with its indexes, named after its first offset.

A segment is appended to until its partition rolls to the next one. `scan` is the one way to walk its batches, used by
look-ups, loading and recovery.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kafkapy.model import NO_TIMESTAMP
from kafkapy.records.batch import HEADER_SIZE, LOG_OVERHEAD, BatchHeader, Buffer, read_header
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.index import OffsetIndex, TimeIndex
from kafkapy.storage.embedded.names import offset_name

SCAN_SIZE_BYTES: Final = 64 * 1024

FIND_SIZE_BYTES: Final = 4 * 1024
"""From a row of the index it is not far: by default a row comes with every 4 KiB, or with every larger batch."""

_LARGE_BATCH_BYTES: Final = 2 * FIND_SIZE_BYTES
"""Rows farther apart than this most likely stand for large batches that follow each other."""


_BEHIND_PART: Final = 8
_BEHIND_BYTES: Final = 2048
"""The file of the offset index may lack an eighth of its rows, and so many bytes of them at most: to write each row by
itself would cost as much as the batches, where those are large."""


class Segment:
    """The bytes of the offsets from `base_offset` on.

    `max_timestamp` is the largest of its batches, `max_timestamp_offset` the last offset of the batch that brought it,
    `first_timestamp` that of its first batch, by which it ages. `times_unsynced`: what was added to the file of
    the time index may not be on the medium. `path` is where its log is now: what takes another's place, and what is
    dropped, has another name for a while.
    """

    __slots__ = (
        "_disk",
        "_since_index_row",
        "_stem",
        "_write_indexes_from",
        "base_offset",
        "first_timestamp",
        "max_timestamp",
        "max_timestamp_offset",
        "offset_index",
        "path",
        "size",
        "time_index",
        "times_unsynced",
    )

    def __init__(self, disk: Disk, folder: Path, base_offset: int) -> None:
        self._disk = disk
        self.base_offset = base_offset
        self._stem = f"{folder}/{offset_name(base_offset)}"  # no Path: a start makes one of these for each log
        self.path = f"{self._stem}.log"
        self.size = 0
        self.offset_index = OffsetIndex()
        self.time_index = TimeIndex()
        self.first_timestamp: int | None = None
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = base_offset
        self.times_unsynced = False
        self._since_index_row = 0
        self._write_indexes_from = 0

    def has_full_index(self, limit: int) -> bool:
        """Whether one of its indexes takes so many bytes."""
        return self.offset_index.size_bytes >= limit or self.time_index.size_bytes >= limit

    def append(
        self, buffers: list[Buffer], size: int, last_offset: int, max_timestamp: int, index_interval_bytes: int
    ) -> None:
        """Add one batch of `size` bytes. After an OSError the caller cuts the segment back."""
        position = self.size
        self._disk.append(self.path, buffers, size, position)
        self.note(position, size, last_offset, max_timestamp, index_interval_bytes)
        self.size = position + size
        if self.offset_index.size_bytes >= self._write_indexes_from:
            self.write_indexes()

    def note(self, position: int, size: int, last_offset: int, max_timestamp: int, index_interval_bytes: int) -> None:
        """Take a batch at this position into the indexes."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.first_timestamp is None:
            self.first_timestamp = max_timestamp
        if self._since_index_row > index_interval_bytes:
            self.offset_index.add(last_offset - self.base_offset, position)
            self.time_index.add(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
            self._since_index_row = 0
        self._since_index_row += size

    def begin_indexes(self) -> None:
        """Forget all that was noted of batches."""
        self.offset_index, self.time_index = OffsetIndex(), TimeIndex()
        self.first_timestamp = None
        self.max_timestamp, self.max_timestamp_offset = NO_TIMESTAMP, self.base_offset
        self._since_index_row = self._write_indexes_from = 0

    def index_anew(self, end: int, index_interval_bytes: int) -> None:
        """Make the indexes from the batches before `end`, which becomes the size. Raises CorruptBatch, OSError."""
        self.begin_indexes()
        self.size = end
        for position, header in self.scan():
            self.note(position, header.size_bytes, header.last_offset, header.max_timestamp, index_interval_bytes)

    def cut(self, size: int, index_interval_bytes: int) -> None:
        """Drop the batches from `size` on, and what a failed write left behind them. Raises OSError."""
        if size != self.size:
            self.index_anew(size, index_interval_bytes)
            for path in self.index_paths():
                self._disk.put(path, b"", 0)  # the next batch writes the rows: now there may be no room for them
        self._disk.truncate(self.path, size)

    def relocate(self, folder: Path) -> None:
        """The files lie in this folder now, under the same names."""
        self._stem = f"{folder}/{offset_name(self.base_offset)}"
        self.path = f"{self._stem}.log"

    def scan(
        self, position: int = 0, end: int | None = None, chunk_size: int = SCAN_SIZE_BYTES
    ) -> Iterator[tuple[int, BatchHeader]]:
        """Position and header of each whole batch in [position, end). Raises CorruptBatch where there is none."""
        end = self.size if end is None else end
        chunk, start = b"", position
        while end - position >= HEADER_SIZE:
            if position - start + HEADER_SIZE > len(chunk):
                start = position
                chunk = self._disk.read(self.path, start, min(chunk_size, end - start))
                if len(chunk) < HEADER_SIZE:
                    return
            header = read_header(chunk, position - start)
            size = LOG_OVERHEAD + header.batch_length
            if size > end - position:
                return
            yield position, header
            position += size

    def find(self, offset: int) -> tuple[int, BatchHeader] | None:
        """The batch that holds `offset`, or the first one after it; None when the segment ends before."""
        begin, row = self.offset_index.around(offset - self.base_offset)
        if row - begin > _LARGE_BATCH_BYTES:
            header = read_header(self._disk.read(self.path, row, HEADER_SIZE))
            if header.base_offset <= offset:
                return row, header
        for position, header in self.scan(begin, chunk_size=FIND_SIZE_BYTES):
            if header.base_offset + header.last_offset_delta >= offset:
                return position, header
        return None

    def position_for_time(self, timestamp: int) -> int:
        """A position with no record this late before it, and one soon after; the segment must have one.

        A row of the time index tells by its timestamp that what came before the last row of the offset index was not
        this late: both indexes get their rows at the same batches.
        """
        before = self.time_index.offset_before(timestamp)
        reaching = self.time_index.offset_reaching(timestamp)
        if reaching is None:
            reaching = self.max_timestamp_offset - self.base_offset
        return max(self.offset_index.around(before)[0], self.offset_index.around(reaching)[0])

    def read_batch(self, position: int, header: BatchHeader) -> bytes:
        """A whole batch."""
        return self._disk.read(self.path, position, header.size_bytes)

    def seal(self) -> None:
        """Nothing is appended any more. Raises OSError."""
        self.save_indexes()
        self._disk.truncate(self.path, self.size)  # gives back what was allocated ahead

    def save_indexes(self, suffix: str = "") -> None:
        """Have all of the indexes in their files; the last timestamp gets its row. Raises OSError.

        A segment that is yet to take its place has a suffix behind the files' names.
        """
        if self.max_timestamp != NO_TIMESTAMP:
            self.time_index.add(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
        self.write_indexes(suffix)

    def write_indexes(self, suffix: str = "") -> None:
        """Add to the files of the indexes what they lack. Raises OSError."""
        indexes: tuple[OffsetIndex | TimeIndex, ...] = (self.offset_index, self.time_index)
        for index, path in zip(indexes, self.index_paths(), strict=True):
            if index.written_bytes != index.size_bytes:
                position = max(index.written_bytes, 0)
                self._disk.put(path + suffix, index.encode(position), position)
                index.written_bytes = index.size_bytes
                self.times_unsynced = True
        size = self.offset_index.size_bytes
        self._write_indexes_from = size + min(size // _BEHIND_PART, _BEHIND_BYTES) + 1

    def index_paths(self) -> tuple[str, str]:
        """The files of the offset index and of the time index."""
        return f"{self._stem}.index", f"{self._stem}.timeindex"

    def paths(self) -> list[str]:
        """The files that must be on the medium before the segment can be trusted after a power cut."""
        return [f"{self._stem}{suffix}" for suffix in (".log", ".index", ".timeindex", ".txnindex")]

    def remove(self) -> None:
        """Remove the segment's files. Raises OSError."""
        for path in self._all_paths():
            self._disk.remove(path)

    def set_aside(self) -> list[Path]:
        """Have the segment's files out of the way, under names by which they are removed one day. Raises OSError."""
        moved = []
        for path in self._all_paths():
            target = self._disk.set_aside(path)
            if target is not None:
                moved.append(target)
                if path == self.path:
                    self.path = str(target)  # who has the segment reads on
        return moved

    def _all_paths(self) -> list[str]:
        """The segment's files, and the snapshot of its beginning."""
        return [*self.paths(), f"{self._stem}.snapshot"]
