"""Which transactions a read-committed reader must skip (KIP-98).

A log keeps one row for every transaction that was aborted in it, in the order of their markers. A reader of the offsets
[start, end) needs the rows whose transactions overlap that range, sorted by first offset.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

_ROW = struct.Struct(">hqqqq")
ROW_SIZE = _ROW.size
_VERSION = 0


class AbortedRow(NamedTuple):
    """One aborted transaction: its records lie in [first_offset, last_offset], the last being the marker.

    Whatever began before `last_stable_offset` had ended by then: markers that follow belong to later transactions.
    """

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


def first_from(rows: Sequence[AbortedRow], offset: int) -> int:
    """The index of the first row whose marker lies at `offset` or later."""
    return bisect_left(rows, offset, key=_last_offset)


def overlapping(rows: Sequence[AbortedRow], start: int, end: int) -> list[AbortedRow]:
    """The rows that matter to a reader of [start, end), sorted by first offset; others are hardly looked at."""
    found = []
    for index in range(first_from(rows, start), len(rows)):
        row = rows[index]
        if row.first_offset < end:
            found.append(row)
        if row.last_stable_offset >= end:
            break  # all that began before `end` has been met
    return sorted(found, key=_first_offset)


_last_offset: Final = attrgetter("last_offset")
_first_offset: Final = attrgetter("first_offset")


def encode_rows(rows: Iterable[AbortedRow]) -> bytes:
    """The rows as a transaction index file holds them."""
    return b"".join(_ROW.pack(_VERSION, *row) for row in rows)


def decode_rows(data: bytes) -> Iterator[AbortedRow]:
    """The rows of a transaction index file, one by one; a partial row at the end is left out.

    ValueError for an unknown version, and for a row that does not follow the one before.
    """
    last = -1
    for position in range(0, len(data) - ROW_SIZE + 1, ROW_SIZE):
        version, *fields = _ROW.unpack_from(data, position)
        if version != _VERSION:
            raise ValueError(f"transaction index version {version}")
        row = AbortedRow(*fields)
        if row.last_offset <= max(row.first_offset, last):
            raise ValueError(f"transaction index row {tuple(row)} after a marker at {last}")
        last = row.last_offset
        yield row
