"""Skims the records of a batch: what each says of its time, its offset and its key, without making a `Record` of it.

For whoever asks something of all records and needs none of them: lookups by time, keys of compacted topics. Every field
is passed over and has to fit, as `read_records` would have it (only whether names of headers are UTF-8 is not asked).
Records come as columns, so that one call of `min` or `max` often says all; a step walks over at most `RECORDS_A_STEP`
records or headers, or 64 KiB, and no more than that is in memory, however far the batch inflates. A record is: length,
attributes, timestamp delta, offset delta, key, value, headers, with zigzag varints throughout.
"""

from collections.abc import Generator, Iterator
from typing import Final, NamedTuple

from kafkapy.records.batch import HEADER_SIZE, BatchHeader, Buffer, CorruptBatch
from kafkapy.records.compression import inflate

RECORDS_A_STEP: Final = 256

_LARGE_RECORD_BYTES: Final = 16 << 10
"""From this length on a record goes by piece by piece."""

_LONGEST_VARINT: Final = 10


class Skimmed(NamedTuple):
    """Some records that follow each other; none, when all that went by was a part of a large one.

    Times and offsets are relative to the batch's base; the size of a key in bytes is -1 where there is none.
    """

    timestamp_deltas: list[int]
    offset_deltas: list[int]
    key_sizes: list[int]


_NONE: Final = Skimmed([], [], [])


def skim(batch: Buffer, header: BatchHeader) -> Iterator[Skimmed]:
    """The records of the one batch at the start of `batch`, step by step; CorruptBatch when it gets to damage."""
    if header.record_count < 0:
        raise CorruptBatch(f"a batch of {header.record_count} records")
    return _Skimmer(inflate(header.compression, memoryview(batch)[HEADER_SIZE : header.size_bytes])).steps(
        header.record_count
    )


class _Skimmer:
    """Where we are: `position` within `buf`, the plain bytes at hand, before which `gone` bytes have passed."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buf = b""
        self._position = 0
        self._gone = 0

    def steps(self, count: int) -> Iterator[Skimmed]:
        waiting = False
        while count:
            skimmed = Skimmed([], [], [])
            self._position = _skim_whole(self._buf, self._position, min(count, RECORDS_A_STEP), skimmed)
            if passed := len(skimmed.key_sizes):
                count -= passed
                waiting = False
                yield skimmed
            elif len(self._buf) - self._position >= _LARGE_RECORD_BYTES or not self._fetch():
                yield (yield from self._pass_large())
                count -= 1
            elif waiting:
                yield _NONE  # two pieces, and no record yet
            else:
                waiting = True
        while self._position == len(self._buf) and self._fetch():
            yield _NONE
        if left := len(self._buf) - self._position:
            raise CorruptBatch(f"{left} bytes left over after the last record")

    def _fetch(self) -> bool:
        """Have another piece at hand, if there is one."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._gone += self._position
        self._buf = self._buf[self._position :] + piece
        self._position = 0
        return True

    def _pass_large(self) -> Generator[Skimmed, None, Skimmed]:
        """One record that is large, or not whole; it is never in memory."""
        length = self._number()
        end = self._gone + self._position + length
        if length < 1:
            raise CorruptBatch(f"a record of {length} bytes")
        self._position += 1  # attributes: none are defined
        timestamp_delta, offset_delta = self._number(), self._number()
        key_size = yield from self._pass_field(end)
        yield from self._pass_field(end)
        count = self._number()
        if not 0 <= count <= end - self._gone - self._position:
            raise CorruptBatch(f"a record with {count} headers")
        for index in range(count):
            if (yield from self._pass_field(end)) < 0:
                raise CorruptBatch("a header without a key")
            yield from self._pass_field(end)
            if index % RECORDS_A_STEP == 0:
                yield _NONE
        if self._gone + self._position != end:
            raise CorruptBatch(f"a record's fields end {end - self._gone - self._position} bytes before its length")
        return Skimmed([timestamp_delta], [offset_delta], [key_size])

    def _number(self) -> int:
        while len(self._buf) - self._position < _LONGEST_VARINT and self._fetch():
            pass
        try:
            value, self._position = _long_varint(self._buf, self._position)
        except IndexError:
            raise CorruptBatch("a record is cut off") from None
        return value

    def _pass_field(self, end: int) -> Generator[Skimmed, None, int]:
        """Pass over a field with its size before it; the size, -1 for none."""
        size = self._number()
        if size < 0:
            if size != -1:
                raise CorruptBatch(f"a field of {size} bytes")
            return size
        if self._gone + self._position + size > end:
            raise CorruptBatch(f"a field of {size} bytes does not fit")
        left = size
        while left > (here := len(self._buf) - self._position):
            left -= here
            self._position += here
            if not self._fetch():
                raise CorruptBatch("a record is cut off")
            yield _NONE
        self._position += left
        return size


def _skim_whole(buf: bytes, position: int, count: int, skimmed: Skimmed) -> int:
    """Up to `count` records from `position` on that are whole in `buf`; the position after them.

    The tight loop: numbers of one or two bytes, which nearly all are, are read without a call. What does not fit stays
    for `_pass_large`, which finds out why.
    """
    timestamp_deltas, offset_deltas, key_sizes = skimmed
    size, begin = len(buf), position
    try:
        while count > 0:
            begin = position
            number = buf[position]
            position += 1
            if number > 0x7F:
                if (second := buf[position]) > 0x7F:
                    length, position = _long_varint(buf, begin)
                else:
                    number = number & 0x7F | second << 7
                    length = (number >> 1) ^ -(number & 1)
                    position += 1
            else:
                length = (number >> 1) ^ -(number & 1)
            end = position + length
            if end > size or not 0 < length < _LARGE_RECORD_BYTES:
                return begin
            position += 1  # attributes: none are defined
            number = buf[position]
            position += 1
            if number > 0x7F:
                if (second := buf[position]) > 0x7F:
                    timestamp_delta, position = _long_varint(buf, position - 1)
                else:
                    number = number & 0x7F | second << 7
                    timestamp_delta = (number >> 1) ^ -(number & 1)
                    position += 1
            else:
                timestamp_delta = (number >> 1) ^ -(number & 1)
            number = buf[position]
            position += 1
            if number > 0x7F:
                if (second := buf[position]) > 0x7F:
                    offset_delta, position = _long_varint(buf, position - 1)
                else:
                    number = number & 0x7F | second << 7
                    offset_delta = (number >> 1) ^ -(number & 1)
                    position += 1
            else:
                offset_delta = (number >> 1) ^ -(number & 1)
            number = buf[position]
            if number > 0x7F or number & 1:
                key_size, position = _field(buf, position)
            else:
                key_size = number >> 1
                position += 1 + key_size
            number = buf[position]
            if number > 0x7F or number & 1:
                _, position = _field(buf, position)
            else:
                position += 1 + (number >> 1)
            if buf[position]:
                headers, position = _headers(buf, position, end)
                count -= headers
            else:
                position += 1
            if position != end:
                raise CorruptBatch(f"a record's fields end {end - position} bytes before its length")
            timestamp_deltas.append(timestamp_delta)
            offset_deltas.append(offset_delta)
            key_sizes.append(key_size)
            count -= 1
    except IndexError:
        return begin
    return position


def _headers(buf: bytes, position: int, end: int) -> tuple[int, int]:
    count, position = _long_varint(buf, position)
    if not 0 <= count <= end - position:
        raise CorruptBatch(f"a record with {count} headers")
    for _ in range(count):
        size, position = _field(buf, position)
        if size < 0:
            raise CorruptBatch("a header without a key")
        _, position = _field(buf, position)
    return count, position


def _field(buf: bytes, position: int) -> tuple[int, int]:
    """The size of a field, -1 for none, and the position after it."""
    size, position = _long_varint(buf, position)
    if size < 0:
        if size != -1:
            raise CorruptBatch(f"a field of {size} bytes")
        return size, position
    return size, position + size


def _long_varint(buf: bytes, position: int) -> tuple[int, int]:
    """A zigzag varint of up to 64 bits, and the position after it; IndexError when it is cut off."""
    value = shift = 0
    while (byte := buf[position]) > 0x7F:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if shift > 63:
            raise CorruptBatch("a varint is too long")
    value |= byte << shift
    return (value >> 1) ^ -(value & 1), position + 1
