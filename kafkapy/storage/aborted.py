"""Which transactions a read-committed reader must skip (KIP-98).

A log keeps one row for every transaction that was aborted in it. A reader of the offsets [start, end) needs the rows
whose transactions overlap that range, sorted by first offset.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_ROW = struct.Struct(">hqqqq")
ROW_SIZE = _ROW.size
_VERSION = 0


class AbortedRow(NamedTuple):
    """One aborted transaction: its records lie in [first_offset, last_offset], the last being the marker."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


def overlapping(rows: Iterable[AbortedRow], start: int, end: int) -> list[AbortedRow]:
    """The rows that matter to a reader of [start, end), sorted by first offset."""
    return sorted(
        (row for row in rows if row.last_offset >= start and row.first_offset < end), key=lambda row: row.first_offset
    )


def encode_rows(rows: Sequence[AbortedRow]) -> bytes:
    """The rows as a transaction index file holds them."""
    return b"".join(_ROW.pack(_VERSION, *row) for row in rows)


def decode_rows(data: bytes) -> list[AbortedRow]:
    """The rows of a transaction index file; a partial row at the end is left out, ValueError for an unknown version."""
    rows = []
    for position in range(0, len(data) - ROW_SIZE + 1, ROW_SIZE):
        version, *fields = _ROW.unpack_from(data, position)
        if version != _VERSION:
            raise ValueError(f"transaction index version {version}")
        rows.append(AbortedRow(*fields))
    return rows
