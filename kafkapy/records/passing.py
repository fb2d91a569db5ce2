"""Passes over records that are whole in a buffer, without making any, and sums up what they say.

The loop is there twice: `_passing.c`, which takes a hundredth of the time and is built where there is a compiler, and
`pass_records` here, which is what it has to do. A record is: length, attributes, timestamp delta, offset delta, key,
value, headers, with zigzag varints throughout.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from kafkapy.records.batch import HEADER_SIZE, BatchHeader, Buffer, CorruptBatch
from kafkapy.records.varints import as_long, is_odd_int, is_odd_long, read_int, read_long

KEYLESS: Final = 1
"""A record has no key."""
UNORDERED: Final = 2
"""Offsets are not 0, 1, 2 …: a record has another than its place in the batch."""
UNUSUAL: Final = 4
"""A record is not as a builder writes it: attributes, numbers that take more bytes than they need, sizes below -1,
names of headers that are not plain ASCII; or the first one has another time than the batch's base."""

RECORDS_A_STEP: Final = 256
"""As many records and headers Python passes over in less than a millisecond."""

MOST_HEADERS: Final = 256
"""A record with more is not passed over at once."""

UNBOUNDED: Final = (1 << 31) - 9
"""As many bytes as Java can have in one place."""

NO_TIMES: Final = ((1 << 63) - 1, -(1 << 63))
"""The earliest and the latest time of no record."""


class Row(NamedTuple):
    """What a record says of itself: its time in milliseconds, offset and place relative to the batch's base, and sizes
    in bytes, below 0 for what is null."""

    timestamp: int
    offset_delta: int
    key_size: int
    value_size: int


def pass_records(
    buf: Buffer, position: int, count: int, place: int, base_timestamp: int, whole: bool, max_record_bytes: int
) -> tuple[int, int, int, int, int]:
    """Up to `count` records and headers from `position` on, the first of which has this place in its batch.

    The position after them, how many they are, the earliest and the latest time, and flags. What is damaged or not
    whole in `buf` is not passed over, nor what comes after it. The tight loop: numbers of one or two bytes, which
    nearly all are, are read without a call.
    """
    size, start, begin = len(buf), position, position
    passed = flags = 0
    lowest, highest = NO_TIMES
    try:
        while count > 0:
            begin, unusual = position, False
            number = buf[position]
            position += 1
            if number < 0x80:
                length = (number >> 1) ^ -(number & 1)
            elif 0 < (second := buf[position]) < 0x80:
                number = number & 0x7F | second << 7
                length = (number >> 1) ^ -(number & 1)
                position += 1
            else:
                length, position = read_int(buf, begin)
                unusual = is_odd_int(buf, begin, position)
            end = position + length
            if not 0 <= length <= max_record_bytes or (whole and end > size):
                break
            if buf[position]:
                unusual = True
            position += 1
            field, number = position, buf[position]
            position += 1
            if number < 0x80:
                timestamp_delta = (number >> 1) ^ -(number & 1)
            elif 0 < (second := buf[position]) < 0x80:
                number = number & 0x7F | second << 7
                timestamp_delta = (number >> 1) ^ -(number & 1)
                position += 1
            else:
                timestamp_delta, position = read_long(buf, field)
                unusual = unusual or is_odd_long(buf, field, position)
            field, number = position, buf[position]
            position += 1
            if number < 0x80:
                offset_delta = (number >> 1) ^ -(number & 1)
            elif 0 < (second := buf[position]) < 0x80:
                number = number & 0x7F | second << 7
                offset_delta = (number >> 1) ^ -(number & 1)
                position += 1
            else:
                offset_delta, position = read_int(buf, field)
                unusual = unusual or is_odd_int(buf, field, position)
            field, number = position, buf[position]
            position += 1
            if number > 0x7F and 0 < (second := buf[position]) < 0x80:
                number = number & 0x7F | second << 7
                position += 1
            if number == 1:
                key_size = -1
            elif number & 1 or (number > 0x7F and position == field + 1):
                key_size, position, odd = _field(buf, field)
                unusual = unusual or odd
            else:
                key_size = number >> 1
                position += key_size
            field, number = position, buf[position]
            position += 1
            if number > 0x7F and 0 < (second := buf[position]) < 0x80:
                number = number & 0x7F | second << 7
                position += 1
            if number & 1 or (number > 0x7F and position == field + 1):
                _, position, odd = _field(buf, field)
                unusual = unusual or odd
            else:
                position += number >> 1
            headers = 0
            if buf[position]:
                headers, position, odd = _headers(buf, position)
                unusual = unusual or odd
            else:
                position += 1
            if position > size or (whole and position != end):
                break
            if timestamp_delta < lowest:
                lowest = timestamp_delta
            if timestamp_delta > highest:
                highest = timestamp_delta
            if key_size < 0:
                flags |= KEYLESS
            if offset_delta != place:
                flags |= UNORDERED
            if unusual or (place == 0 and timestamp_delta):
                flags |= UNUSUAL
            place += 1
            passed += 1
            count -= 1 + headers
        else:
            begin = position
    except (IndexError, CorruptBatch):
        pass
    earliest, latest = base_timestamp + lowest, base_timestamp + highest
    if passed and not (as_long(earliest) == earliest and as_long(latest) == latest):
        times = [row.timestamp for row in rows(buf, start, passed, base_timestamp)]
        return begin, passed, min(times), max(times), flags
    return begin, passed, *((earliest, latest) if passed else NO_TIMES), flags


def _field(buf: Buffer, position: int) -> tuple[int, int, bool]:
    """The size of a field, the position after it, and whether its size is unusual."""
    size, begin = read_int(buf, position)
    return size, begin + max(size, 0), size < -1 or is_odd_int(buf, position, begin)


def _headers(buf: Buffer, position: int) -> tuple[int, int, bool]:
    """How many there are, the position after them, and whether they are unusual; not all at once if they are many."""
    count, begin = read_int(buf, position)
    unusual = is_odd_int(buf, position, begin)
    if not 0 <= count <= MOST_HEADERS:
        raise CorruptBatch(f"a record with {count} headers")
    for _ in range(count):
        name_size, end, odd = _field(buf, begin)
        if name_size < 0:
            raise CorruptBatch("a header without a key")
        unusual = unusual or odd or not bytes(buf[end - name_size : end]).isascii()
        _, begin, odd = _field(buf, end)
        unusual = unusual or odd
    return count, begin, unusual


def rows(buf: Buffer, position: int, count: int, base_timestamp: int) -> Iterator[Row]:
    """The records from `position` on, which have been walked over."""
    for _ in range(count):
        _, position = read_int(buf, position)
        timestamp_delta, position = read_long(buf, position + 1)
        offset_delta, position = read_int(buf, position)
        key_size, position = read_int(buf, position)
        value_size, position = read_int(buf, position + max(key_size, 0))
        header_count, position = read_int(buf, position + max(value_size, 0))
        for _ in range(2 * header_count):
            size, position = read_int(buf, position)
            position += max(size, 0)
        yield Row(as_long(base_timestamp + timestamp_delta), offset_delta, key_size, value_size)


_Pass = Callable[[Buffer, int, int, int, int, bool, int], tuple[int, int, int, int, int]]

pass_at_once: _Pass = pass_records
most_at_once = RECORDS_A_STEP
try:
    from kafkapy.records._passing import pass_records as pass_natively
except ImportError:  # there was no compiler
    pass
else:
    pass_at_once, most_at_once = pass_natively, 64 * RECORDS_A_STEP


def look(batch: Buffer, header: BatchHeader) -> tuple[int, int, int] | None:
    """Earliest and latest time, and flags, of all records of a plain batch, in one step.

    None if that is too much for a step, or something is wrong: then a walk tells.
    """
    count = header.record_count
    if count > most_at_once:
        return None
    end, passed, earliest, latest, flags = pass_at_once(
        batch, HEADER_SIZE, count, 0, header.base_timestamp, True, UNBOUNDED
    )
    return (earliest, latest, flags) if passed == count and end == len(batch) else None
