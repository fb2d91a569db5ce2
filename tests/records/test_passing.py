"""What is passed over at once, in C where that is built and in Python: the same of any bytes."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kafkapy.records import passing
from kafkapy.records.batch import HEADER_SIZE
from kafkapy.records.builder import build_batch
from kafkapy.records.passing import KEYLESS, MOST_HEADERS, UNBOUNDED, UNORDERED, UNUSUAL, pass_records
from kafkapy.records.record import Record

CONTENT = st.none() | st.binary(max_size=3) | st.sampled_from([b"x" * 70, b"y" * 9_000])
HEADERS = st.lists(st.tuples(st.sampled_from(["", "h", "é"]), CONTENT), max_size=2)
TIMES = st.sampled_from([0, 1, -1, 64, -65, 9_000, 2**40, 2**62, -(2**62)])
RECORDS = st.lists(st.tuples(st.integers(0, 2), TIMES, CONTENT, CONTENT, HEADERS), min_size=1, max_size=6)
JUNK = st.binary(min_size=1, max_size=6) | st.sampled_from([b"\x80\x00", b"\xff" * 4 + b"\x0f", b"\x80" * 9 + b"\x01"])


def plain(records: list[Record]) -> bytes:
    return build_batch(records)[HEADER_SIZE:]


@settings(deadline=None, max_examples=1500)
@given(
    rows=RECORDS,
    at=st.integers(0, 200),
    junk=st.none() | JUNK,
    gone=st.integers(0, 5),
    start=st.integers(0, 3),
    count=st.integers(0, 8),
    place=st.integers(0, 2),
    base=st.sampled_from([0, 1_700_000_000_000, 2**63 - 1, -(2**63)]),
    whole=st.booleans(),
    most=st.sampled_from([UNBOUNDED, 40]),
)
@example([(0, 0, None, None, [])], 0, b"\x80" * 4 + b"\x70", 1, 0, 3, 0, 0, True, UNBOUNDED)
def test_both_say_the_same(rows, at, junk, gone, start, count, place, base, whole, most) -> None:
    offset, records = 0, []
    for gap, time, key, value, headers in rows:
        records.append(Record(offset, time, key, value, headers))
        offset += gap
    buf = bytearray(plain(records))
    if junk is not None:
        at %= len(buf)
        buf[at : at + gone] = junk
    buf[:0] = bytes(start)
    given = (start, count, place, base, whole, most)
    expected = pass_records(bytes(buf), *given)
    assert passing.pass_at_once(bytes(buf), *given) == expected
    assert passing.pass_at_once(memoryview(buf), *given) == expected


PASSES = {"Python": pass_records, "what is built": passing.pass_at_once}


@pytest.mark.parametrize("name", PASSES)
def test_what_is_told(name: str) -> None:
    ordered = [Record(i, 1000 + (7 * i) % 5, b"k", b"v", [("h", None)]) for i in range(5)]
    pass_over = PASSES[name]

    def told(records: list[Record], place: int = 0, count: int = 100) -> tuple[int, ...]:
        data = plain(records)
        end, *found = pass_over(data, 0, count, place, records[0].timestamp, True, UNBOUNDED)
        return end == len(data), *found

    assert told(ordered) == (True, 5, 1000, 1004, 0)
    assert told(ordered, place=1) == (True, 5, 1000, 1004, UNORDERED)
    assert told([*ordered, ordered[0]]) == (True, 6, 1000, 1004, UNORDERED)
    assert told([ordered[0], ordered[1]._replace(key=None)]) == (True, 2, 1000, 1002, KEYLESS)
    assert told([ordered[0]._replace(headers=[("é", b"")])]) == (True, 1, 1000, 1000, UNUSUAL)
    assert told(ordered, count=3) == (False, 2, 1000, 1002, 0)  # two records with a header each
    many = ordered[0]._replace(headers=[("h", b"")] * (MOST_HEADERS + 1))
    assert told([many])[1] == 0
    assert told([many._replace(headers=many.headers[1:])], count=1)[:2] == (True, 1)


def test_what_is_built_reads_nothing_outside_of_its_buffer() -> None:
    data = memoryview(plain([Record(0, 0, b"key", b"value", [])]))
    for end in range(len(data)):
        assert passing.pass_at_once(data[:end], 0, 1, 0, 0, True, UNBOUNDED)[:2] == (0, 0)
        assert passing.pass_at_once(data[:end], 0, 1, 0, 0, False, UNBOUNDED)[:2] == (0, 0)
    if passing.pass_at_once is not pass_records:  # Python's own buffers know their bounds
        for position in (len(data) + 1, -1):
            with pytest.raises(IndexError):
                passing.pass_at_once(data, position, 1, 0, 0, True, UNBOUNDED)
