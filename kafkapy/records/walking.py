"""Walks over the records of a batch without making any, and tells of each stretch what its records have in common.

For whoever asks something of all records and needs none of them: what Kafka asks of each batch that a producer sends,
and lookups by time. A record is: length, attributes, timestamp delta, offset delta, key, value, headers, with zigzag
varints throughout. Kafka reads them in two ways, and so does this: *whole*, where what a record holds must fill its
length exactly; and, where a compressed batch is stored as it came, field by field, where its length is not compared
with anything. Most records are passed over at once (`passing.py`); those that are large, torn between two pieces of
what is inflated, or damaged, are gone through bit by bit. Between two stretches no more lies than is passed over at
once, or inflated at a time, and no more is in memory, however far the batch inflates.
"""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Final, NamedTuple, TypeVar

from kafkapy.records.batch import HEADER_SIZE, BatchHeader, Buffer, Compression, CorruptBatch
from kafkapy.records.compression import DamagedPayload, inflate
from kafkapy.records.passing import (
    KEYLESS,
    MOST_HEADERS,
    NO_TIMES,
    UNBOUNDED,
    UNORDERED,
    UNUSUAL,
    Row,
    most_at_once,
    pass_at_once,
    pass_records,
    rows,
)
from kafkapy.records.varints import LONGEST_LONG, OverlongNumber, as_long, is_odd_int, is_odd_long, read_int, read_long

_ENDLESS: Final = 1 << 31
"""More than any number of 32 bits."""


class Stretch(NamedTuple):
    """Some records that follow each other; none, when all that went by was a part of a large one."""

    record_count: int
    earliest: int
    latest: int
    flags: int
    rows: Callable[[], Iterator[Row]]
    """The records one by one; to be asked before the walk goes on."""


class OverlongLength(CorruptBatch):
    """The length of a record that is not compressed has more bytes than a number has."""


T = TypeVar("T")

_Steps = Generator[Stretch, None, T]
_Read = Callable[[Buffer, int], tuple[int, int]]
_IsOdd = Callable[[Buffer, int, int], bool]

_EMPTY_A_STEP: Final = 64
_NOTHING: Final = Stretch(0, *NO_TIMES, 0, partial(iter, ()))


class Walk:
    """A walk over the records of the one batch at the start of `batch`; iterating raises CorruptBatch at damage.

    `done` once nothing is left after the stretch that came last. Of compressed records none may be longer than
    `max_record_bytes`. A stretch is of at most `at_once` records. Times are by the batch's base, also where its type of
    timestamp gives all records the same.
    """

    def __init__(
        self,
        batch: Buffer,
        header: BatchHeader,
        *,
        whole: bool = True,
        max_record_bytes: int = UNBOUNDED,
        at_once: int | None = None,
    ) -> None:
        self.done = False
        body = memoryview(batch)[HEADER_SIZE : header.size_bytes]
        codec = header.compression
        as_it_is = codec is Compression.NONE and pass_at_once is not pass_records  # Python passes over bytes
        self._pieces: Iterator[Buffer] = iter((body,)) if as_it_is else inflate(codec, body)
        self._at_once = at_once or most_at_once
        self._count = header.record_count
        self._base = header.base_timestamp
        self._whole = whole
        self._is_plain = codec is Compression.NONE
        self._most = UNBOUNDED if self._is_plain else max_record_bytes
        self._buf: Buffer = b""  # the plain bytes at hand, before which `_gone` bytes have passed
        self._position = 0
        self._gone = 0
        self._end: int | None = None  # of the record at hand, where it must fill its length
        self._unusual = False

    def __iter__(self) -> Iterator[Stretch]:
        if self._count < 0:
            raise CorruptBatch(f"a batch of {self._count} records")
        passed = 0
        while passed < self._count:
            if self._position == len(self._buf) and not (yield from self._fetch()):
                raise CorruptBatch("a record is cut off")
            begin, at_once = self._position, min(self._count - passed, self._at_once)
            self._position, count, earliest, latest, flags = pass_at_once(
                self._buf, begin, at_once, passed, self._base, self._whole, self._most
            )
            if count:
                stretch = Stretch(count, earliest, latest, flags, partial(rows, self._buf, begin, count, self._base))
            else:
                stretch = yield from self._pass_one(passed)
            passed += stretch.record_count
            if passed == self._count:
                if self._position < len(self._buf) or (yield from self._fetch()):
                    raise CorruptBatch("bytes are left over after the last record")
                self.done = True
            yield stretch

    def _fetch(self) -> _Steps[bool]:
        """Have another piece at hand instead of the one that is used up, if there is one that holds anything."""
        for empty, piece in enumerate(self._pieces, 1):
            if piece:
                self._gone += len(self._buf)
                self._buf = piece
                self._position = 0
                return True
            if empty % _EMPTY_A_STEP == 0:
                yield _NOTHING
        return False

    def _pass_one(self, place: int) -> _Steps[Stretch]:
        """One record that is large, or not whole here, or damaged; it is never in memory."""
        self._unusual, self._end = False, None
        try:
            length = yield from self._number(read_int, is_odd_int)
        except OverlongNumber as overlong:
            raise OverlongLength(str(overlong)) if self._is_plain else overlong from None
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
            while self._end is not None and self._gone + len(self._buf) < self._end and (yield from self._fetch()):
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
            if index % MOST_HEADERS == 0:
                yield _NOTHING
        if self._end is not None and self._left():
            raise CorruptBatch(f"a record's fields end {self._left()} bytes before its length")
        return Row(as_long(self._base + timestamp_delta), offset_delta, key_size, value_size)

    def _left(self) -> int:
        """How much of the record may follow."""
        return _ENDLESS if self._end is None else self._end - self._gone - self._position

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
            if not (yield from self._fetch()):
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
        if self._left() < 0:
            raise CorruptBatch("a record's fields go on behind its end")
        if is_odd(buf, begin, end):
            self._unusual = True
        return value

    def _byte(self) -> _Steps[int]:
        if self._left() <= 0:
            raise CorruptBatch("a record's fields go on behind its end")
        if self._position == len(self._buf) and not (yield from self._fetch()):
            raise CorruptBatch("a record is cut off")
        self._position += 1
        return self._buf[self._position - 1]
