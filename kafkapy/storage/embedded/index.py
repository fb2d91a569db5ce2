"""The two sparse indexes of a segment, in Kafka's format.

Offset index (`.index`): rows of 4 + 4 bytes, the last offset of a batch relative to the segment's base, and the batch's
position in the log file. Time index (`.timeindex`): rows of 8 + 4 bytes, the largest timestamp so far and the relative
offset of the batch that brought it. One row about every `index.interval.bytes`.

Invariants
 1. Relative offsets and positions rise from row to row; so do timestamps.
 2. A row's position is the beginning of a batch.

The indexes of a segment in use live in memory; their files follow, a few rows behind. After a crash they are made again
from the log.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

_OFFSET_ROW = struct.Struct(">ii")
_TIME_ROW = struct.Struct(">qi")
OFFSET_ROW_SIZE = _OFFSET_ROW.size
TIME_ROW_SIZE = _TIME_ROW.size


class TimeRow(NamedTuple):
    """A row of the time index."""

    timestamp: int
    relative_offset: int


_NO_FILE = -1


class OffsetIndex:
    """Where to begin looking for an offset. Of its `size_bytes` the file has `written_bytes`; -1 without a file."""

    __slots__ = ("_offsets", "_positions", "size_bytes", "written_bytes")

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._positions: list[int] = []
        self.size_bytes = 0
        self.written_bytes = _NO_FILE

    def add(self, relative_offset: int, position: int) -> None:
        self._offsets.append(relative_offset)
        self._positions.append(position)
        self.size_bytes += OFFSET_ROW_SIZE

    def around(self, relative_offset: int) -> tuple[int, int]:
        """Two positions of batches: the one with this offset begins at or after the first, and not after the second.

        The first is 0 when no row lies before; so is the second when none lies behind, and then it says nothing.
        """
        # A row names the last offset of its batch.
        row = bisect_left(self._offsets, relative_offset)
        positions = self._positions
        return positions[row - 1] if row else 0, positions[row] if row < len(positions) else 0

    def boundary(self, low: int, high: int) -> int:
        """The last position in (low, high] that is known to be the beginning of a batch; `high` when none is."""
        row = bisect_right(self._positions, high) - 1
        return self._positions[row] if row >= 0 and self._positions[row] > low else high

    def offset_beyond(self, position: int) -> int | None:
        """A relative offset that lies at `position` or behind; None when no row says so."""
        row = bisect_left(self._positions, position)
        return self._offsets[row] if row < len(self._offsets) else None

    def last_position(self) -> int:
        return self._positions[-1] if self._positions else 0

    def rows(self) -> Iterator[tuple[int, int]]:
        return zip(self._offsets, self._positions, strict=True)

    def encode(self, position: int = 0) -> bytes:
        """The rows from this position in the file on."""
        first = position // OFFSET_ROW_SIZE
        rows = zip(self._offsets[first:], self._positions[first:], strict=True)
        return b"".join(_OFFSET_ROW.pack(*row) for row in rows)

    @classmethod
    def decode(cls, data: bytes, end_position: int) -> "OffsetIndex":
        """ValueError when the rows break an invariant or point beyond the log file."""
        index = cls()
        last = (-1, -1)
        for row in _OFFSET_ROW.iter_unpack(data[: len(data) // OFFSET_ROW_SIZE * OFFSET_ROW_SIZE]):
            if row == (0, 0) and last != (-1, -1):
                break  # Kafka maps its index files with room to spare: the rest is empty
            if row[0] <= last[0] or row[1] <= last[1] or row[1] >= end_position:
                raise ValueError(f"offset index row {row} after {last}, in a log of {end_position} bytes")
            index.add(*row)
            last = row
        if index.size_bytes == len(data):
            index.written_bytes = len(data)
        return index


class TimeIndex:
    """Where to begin looking for a timestamp. Of its `size_bytes` the file has `written_bytes`; -1 without a file."""

    __slots__ = ("_rows", "size_bytes", "written_bytes")

    def __init__(self) -> None:
        self._rows: list[TimeRow] = []
        self.size_bytes = 0
        self.written_bytes = _NO_FILE

    def add(self, timestamp: int, relative_offset: int) -> None:
        """Add a row, unless it brings nothing new."""
        if not self._rows or timestamp > self._rows[-1].timestamp:
            self._rows.append(TimeRow(timestamp, relative_offset))
            self.size_bytes += TIME_ROW_SIZE

    def offset_before(self, timestamp: int) -> int:
        """A relative offset with no record this late before it; 0 when no row lies before."""
        row = bisect_left(self._rows, (timestamp, -1)) - 1
        return self._rows[row].relative_offset if row >= 0 else 0

    def offset_reaching(self, timestamp: int) -> int | None:
        """The relative offset in the first row that is this late; None when no row is."""
        row = bisect_left(self._rows, (timestamp, -1))
        return self._rows[row].relative_offset if row < len(self._rows) else None

    def last(self) -> TimeRow | None:
        return self._rows[-1] if self._rows else None

    def rows(self) -> Iterator[TimeRow]:
        return iter(self._rows)

    def encode(self, position: int = 0) -> bytes:
        """The rows from this position in the file on."""
        return b"".join(_TIME_ROW.pack(*row) for row in self._rows[position // TIME_ROW_SIZE :])

    @classmethod
    def decode(cls, data: bytes) -> "TimeIndex":
        """ValueError when timestamps do not rise."""
        index = cls()
        for row in _TIME_ROW.iter_unpack(data[: len(data) // TIME_ROW_SIZE * TIME_ROW_SIZE]):
            if row == (0, 0):
                break
            last = index.last()
            if last is not None and (row[0] <= last.timestamp or row[1] < last.relative_offset):
                raise ValueError(f"time index row {row} after {tuple(last)}")
            index.add(*row)
        if index.size_bytes == len(data):
            index.written_bytes = len(data)
        return index
