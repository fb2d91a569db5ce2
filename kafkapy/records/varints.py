"""The numbers in records: zigzag varints, seven bits a byte, read exactly as Kafka reads them.

What goes beyond 32 or 64 bits in the last possible byte falls away, and bytes that add nothing are no damage.
"""

from typing import Final

from kafkapy.records.batch import Buffer, CorruptBatch

LONGEST_INT: Final = 5
LONGEST_LONG: Final = 10


class OverlongNumber(CorruptBatch):
    """A number goes on where it must have ended."""


def read_int(buf: Buffer, position: int) -> tuple[int, int]:
    """A number of 32 bits, and the position after it. IndexError where the bytes end, OverlongNumber if it goes on."""
    raw = buf[position]
    if raw <= 0x7F:
        position += 1
    elif buf[position + 1] <= 0x7F:  # a loaded log has as many records as these two cases spare calls
        raw = raw & 0x7F | buf[position + 1] << 7
        position += 2
    else:
        raw, position = _raw(buf, position, LONGEST_INT)
        raw &= 0xFFFFFFFF
    return (raw >> 1) ^ -(raw & 1), position


def read_long(buf: Buffer, position: int) -> tuple[int, int]:
    """A number of 64 bits, in the same way."""
    raw, position = _raw(buf, position, LONGEST_LONG)
    raw &= 0xFFFFFFFFFFFFFFFF
    return (raw >> 1) ^ -(raw & 1), position


def is_odd_int(buf: Buffer, begin: int, end: int) -> bool:
    """Whether the number of 32 bits between these positions is written otherwise than `read_int` would have it."""
    return _is_odd(buf, begin, end, LONGEST_INT, 0x0F)


def is_odd_long(buf: Buffer, begin: int, end: int) -> bool:
    """The same of one of 64 bits."""
    return _is_odd(buf, begin, end, LONGEST_LONG, 0x01)


def as_long(number: int) -> int:
    """The number as 64 bits hold it: beyond the largest one comes the smallest one."""
    return (number + (1 << 63) & 0xFFFFFFFFFFFFFFFF) - (1 << 63)


def _raw(buf: Buffer, position: int, longest: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := buf[position]) > 0x7F:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if shift == 7 * longest:
            raise OverlongNumber("a varint is too long")
    return value | byte << shift, position + 1


def _is_odd(buf: Buffer, begin: int, end: int, longest: int, last_most: int) -> bool:
    size, last = end - begin, buf[end - 1]
    return size > 1 and (last == 0 or (size == longest and last > last_most))
