"""Walks over the records of a batch without making any, and tells of each stretch what its records have in common.

For whoever asks something of all records and needs none of them: what Kafka asks of each batch that a producer sends,
and lookups by time. A record is: length, attributes, timestamp delta, offset delta, key, value, headers, with zigzag
varints throughout. Kafka reads them in two ways, and so does this: *whole*, where what a record holds must fill its
length exactly; and, where a compressed batch is stored as it came, field by field, where its length is not compared
with anything. Between two stretches no more lies than `RECORDS_A_STEP` records or headers, or what is inflated at a
time, and no more is in memory, however far the batch inflates.
"""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Final, NamedTuple, TypeVar

from kafkapy.records.batch import HEADER_SIZE, BatchHeader, Buffer, Compression, CorruptBatch
from kafkapy.records.compression import DamagedPayload, inflate
from kafkapy.records.varints import LONGEST_LONG, as_long, is_odd_int, is_odd_long, read_int, read_long

KEYLESS: Final = 1
"""A record has no key."""
UNORDERED: Final = 2
"""Offsets are not 0, 1, 2 …: a record has another than its place in the batch."""
UNUSUAL: Final = 4
"""A record is not as a builder writes it: attributes, numbers that take more bytes than they need, sizes below -1,
names of headers that are not plain ASCII; or the first one has another time than the batch's base."""

RECORDS_A_STEP: Final = 256

UNBOUNDED: Final = (1 << 31) - 9
"""As many bytes as Java can have in one place."""


class Row(NamedTuple):
    """What a record says of itself: its time in milliseconds, offset and place relative to the batch's base, and sizes
    in bytes, below 0 for what is null."""

    timestamp: int
    offset_delta: int
    key_size: int
    value_size: int


class Stretch(NamedTuple):
    """Some records that follow each other; none, when all that went by was a part of a large one."""

    record_count: int
    earliest: int
    latest: int
    flags: int
    rows: Callable[[], Iterator[Row]]
    """The records one by one; to be asked before the walk goes on."""


T = TypeVar("T")

_Steps = Generator[Stretch, None, T]
_Read = Callable[[Buffer, int], tuple[int, int]]
_IsOdd = Callable[[Buffer, int, int], bool]

_NO_TIMES: Final = ((1 << 63) - 1, -(1 << 63))

_NOTHING: Final = Stretch(0, *_NO_TIMES, 0, partial(iter, ()))


class Walk:
    """A walk over the records of the one batch at the start of `batch`; iterating raises CorruptBatch at damage.

    `done` once nothing is left after the stretch that came last. Of compressed records none may be longer than
    `max_record_bytes`. Times are by the batch's base, also where its timestamp type has all at once.
    """

    def __init__(
        self, batch: Buffer, header: BatchHeader, *, whole: bool = True, max_record_bytes: int = UNBOUNDED
    ) -> None:
        self.done = False
        body = memoryview(batch)[HEADER_SIZE : header.size_bytes]
        self._pieces = inflate(header.compression, body)
        self._count = header.record_count
        self._base = header.base_timestamp
        self._whole = whole
        self._most = UNBOUNDED if header.compression is Compression.NONE else max_record_bytes
        self._buf = b""  # the plain bytes at hand, before which `_gone` bytes have passed
        self._position = 0
        self._gone = 0
        self._end: int | None = None  # of the record at hand, where it must fill its length
        self._unusual = False

    def __iter__(self) -> Iterator[Stretch]:
        if self._count < 0:
            raise CorruptBatch(f"a batch of {self._count} records")
        passed = 0
        while passed < self._count:
            begin, at_once = self._position, min(self._count - passed, RECORDS_A_STEP)
            self._position, count, earliest, latest, flags = walk_records(
                self._buf, begin, at_once, passed, self._base, self._whole, self._most
            )
            if count:
                stretch = Stretch(count, earliest, latest, flags, partial(_rows, self._buf, begin, count, self._base))
            else:
                stretch = yield from self._pass_one(passed)
            passed += stretch.record_count
            if passed == self._count:
                yield from self._find_end()
                self.done = True
            yield stretch

    def _find_end(self) -> Iterator[Stretch]:
        while self._position == len(self._buf):
            if not self._fetch():
                return
            yield _NOTHING
        raise CorruptBatch("bytes are left over after the last record")

    def _fetch(self) -> bool:
        """Have another piece at hand instead of the one that is used up, if there is one."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._gone += len(self._buf)
        self._buf = piece
        self._position = 0
        return True

    def _pass_one(self, place: int) -> _Steps[Stretch]:
        """One record that is large, or not whole here, or damaged; it is never in memory."""
        self._unusual, self._end = False, None
        length = yield from self._number(read_int, is_odd_int)
        if not 0 <= length <= self._most:
            raise CorruptBatch(f"a record of {length} bytes")
        if self._whole:
            self._end = self._gone + self._position + length
        try:
            row = yield from self._pass_body(place)
        except DamagedPayload:
            raise
        except CorruptBatch as corrupt:
            # Kafka has all of it at hand before it looks at any: what is damaged behind it comes first.
            while self._end is not None and self._gone + len(self._buf) < self._end and self._fetch():
                yield _NOTHING
            raise corrupt
        flags = KEYLESS if row.key_size < 0 else 0
        if row.offset_delta != place:
            flags |= UNORDERED
        if self._unusual or (place == 0 and row.timestamp != self._base):
            flags |= UNUSUAL
        return Stretch(1, row.timestamp, row.timestamp, flags, partial(iter, (row,)))

    def _pass_body(self, place: int) -> _Steps[Row]:
        if (yield from self._byte()):
            self._unusual = True  # no attributes are defined
        timestamp_delta = yield from self._number(read_long, is_odd_long)
        offset_delta = yield from self._number(read_int, is_odd_int)
        key_size = yield from self._pass_field()
        value_size = yield from self._pass_field()
        header_count = yield from self._number(read_int, is_odd_int)
        if not 0 <= header_count <= self._left():
            raise CorruptBatch(f"a record with {header_count} headers")
        for index in range(1, header_count + 1):
            if (yield from self._pass_field(is_name=True)) < 0:
                raise CorruptBatch("a header without a key")
            yield from self._pass_field()
            if index % RECORDS_A_STEP == 0:
                yield _NOTHING
        if self._end is not None and self._left():
            raise CorruptBatch(f"a record's fields end {self._left()} bytes before its length")
        return Row(as_long(self._base + timestamp_delta), offset_delta, key_size, value_size)

    def _left(self) -> int:
        """How much of the record may follow."""
        return UNBOUNDED if self._end is None else self._end - self._gone - self._position

    def _pass_field(self, *, is_name: bool = False) -> _Steps[int]:
        """Pass over a field with its size before it; the size, below 0 for none."""
        size = yield from self._number(read_int, is_odd_int)
        if max(size, 0) > self._left():
            raise CorruptBatch(f"a field of {size} bytes does not fit")
        if size < -1:
            self._unusual = True
        left = max(size, 0)
        while True:
            begin = self._position
            self._position = min(begin + left, len(self._buf))
            if is_name and not bytes(self._buf[begin : self._position]).isascii():
                self._unusual = True
            left -= self._position - begin
            if not left:
                return size
            if not self._fetch():
                raise CorruptBatch("a record is cut off")
            yield _NOTHING

    def _number(self, read: _Read, is_odd: _IsOdd) -> _Steps[int]:
        buf, begin = self._buf, self._position
        try:
            value, end = read(buf, begin)
            self._position = end
        except IndexError:  # it goes on in the next piece
            torn = bytearray()
            while len(torn) < LONGEST_LONG and (not torn or torn[-1] > 0x7F):
                torn.append((yield from self._byte()))
            value, end = read(torn, 0)
            buf, begin = bytes(torn), 0
        if is_odd(buf, begin, end):
            self._unusual = True
        return value

    def _byte(self) -> _Steps[int]:
        while self._position == len(self._buf):
            if not self._left() or not self._fetch():
                raise CorruptBatch("a record is cut off")
            yield _NOTHING
        self._position += 1
        return self._buf[self._position - 1]


def walk_records(
    buf: Buffer, position: int, count: int, place: int, base_timestamp: int, whole: bool, max_record_bytes: int
) -> tuple[int, int, int, int, int]:
    """Up to `count` records and headers from `position` on, the first of which has this place in its batch.

    The position after them, how many they are, the earliest and the latest time, and flags. What is damaged or not
    whole in `buf` is not passed over, nor what comes after it. The tight loop: numbers of one or two bytes, which
    nearly all are, are read without a call.
    """
    size, start, begin = len(buf), position, position
    passed = flags = 0
    lowest, highest = _NO_TIMES
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
            number = buf[position]
            if number > 0x7F or number & 1:
                key_size, position, odd = _field(buf, position)
                unusual = unusual or odd
            else:
                key_size = number >> 1
                position += 1 + key_size
            number = buf[position]
            if number > 0x7F or number & 1:
                _, position, odd = _field(buf, position)
                unusual = unusual or odd
            else:
                position += 1 + (number >> 1)
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
        times = [row.timestamp for row in _rows(buf, start, passed, base_timestamp)]
        return begin, passed, min(times), max(times), flags
    return begin, passed, *((earliest, latest) if passed else _NO_TIMES), flags


def _field(buf: Buffer, position: int) -> tuple[int, int, bool]:
    """The size of a field, the position after it, and whether its size is unusual."""
    size, begin = read_int(buf, position)
    return size, begin + max(size, 0), size < -1 or is_odd_int(buf, position, begin)


def _headers(buf: Buffer, position: int) -> tuple[int, int, bool]:
    """How many there are, the position after them, and whether they are unusual; not all at once if they are many."""
    count, begin = read_int(buf, position)
    unusual = is_odd_int(buf, position, begin)
    if not 0 <= count <= RECORDS_A_STEP:
        raise CorruptBatch(f"a record with {count} headers")
    for _ in range(count):
        name_size, end, odd = _field(buf, begin)
        if name_size < 0:
            raise CorruptBatch("a header without a key")
        unusual = unusual or odd or not bytes(buf[end - name_size : end]).isascii()
        _, begin, odd = _field(buf, end)
        unusual = unusual or odd
    return count, begin, unusual


def _rows(buf: Buffer, position: int, count: int, base_timestamp: int) -> Iterator[Row]:
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
