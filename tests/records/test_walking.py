"""What a walk tells of records beside what reading them does, damaged ones too, and how little it does at a time."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kafkapy.records import walking
from kafkapy.records.batch import HEADER_SIZE, Compression, CorruptBatch, assemble, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.compression import PIECE_BYTES, compress, deflate, inflate
from kafkapy.records.passing import KEYLESS, MOST_HEADERS, RECORDS_A_STEP, UNORDERED, Row, pass_records
from kafkapy.records.record import Record, read_records
from kafkapy.records.walking import Stretch, Walk

CONTENT = st.none() | st.binary(max_size=70) | st.sampled_from([b"x" * 9_000, b"y" * 17_000, b"z" * 140_000])
HEADERS = st.lists(st.tuples(st.sampled_from(["", "h", "long" * 50]), CONTENT), max_size=3)
RECORDS = st.lists(
    st.tuples(
        st.integers(1, 3000), st.sampled_from([0, 1, -1, 63, 64, -65, 9000, 2**40, -(2**40)]), CONTENT, CONTENT, HEADERS
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture(params=["Python", "what is built"], autouse=True)
def pass_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python":
        monkeypatch.setattr(walking, "pass_at_once", pass_records)
        monkeypatch.setattr(walking, "most_at_once", RECORDS_A_STEP)


def walked(batch: bytes, **options) -> list[Row]:
    """What the stretches tell one by one; each must sum up what its records say."""
    walk = Walk(batch, read_header(batch), **options)
    found: list[Row] = []
    for stretch in walk:
        rows = list(stretch.rows())
        assert stretch.record_count == len(rows)
        if rows:
            times = [row.timestamp for row in rows]
            assert (stretch.earliest, stretch.latest) == (min(times), max(times))
            assert bool(stretch.flags & KEYLESS) == any(row.key_size < 0 for row in rows)
            places = range(len(found), len(found) + len(rows))
            assert bool(stretch.flags & UNORDERED) == ([row.offset_delta for row in rows] != list(places))
        found += rows
    assert walk.done
    return found


def read(batch: bytes) -> list[Row]:
    return [
        Row(r.timestamp, r.offset, -1 if r.key is None else len(r.key), -1 if r.value is None else len(r.value))
        for r in read_records(batch)
    ]


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=RECORDS, codec=st.sampled_from(list(Compression)))
def test_stretches_tell_of_the_records(rows: list[tuple], codec: Compression) -> None:
    offset, records = 0, []
    for gap, time, key, value, headers in rows:
        records.append(Record(offset, 10**12 + time, key, value, headers))
        offset += gap
    batch = build_batch(records, compression=codec)
    assert walked(batch) == walked(batch, whole=False) == read(batch)


SMALL = st.lists(
    st.tuples(st.none() | st.binary(max_size=3), st.none() | st.binary(max_size=3), st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(
    deadline=None, max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=SMALL, position=st.integers(0, 60), junk=st.binary(min_size=1, max_size=3), cut=st.integers(0, 3))
def test_damage_is_seen_where_reading_sees_it(rows: list[tuple], position: int, junk: bytes, cut: int) -> None:
    records = [Record(i, 1000 + i, key, value, [("h", b"")] if h else []) for i, (key, value, h) in enumerate(rows)]
    whole = build_batch(records)
    body = bytearray(whole[HEADER_SIZE:])
    at = position % len(body)
    body[at : at + len(junk)] = junk
    batch = assemble(read_header(whole), bytes(body[: len(body) - cut]))
    try:
        expected = read(batch)
    except CorruptBatch:
        with pytest.raises(CorruptBatch):
            walked(batch)
    else:
        assert [(*row[:2], max(row.key_size, -1), max(row.value_size, -1)) for row in walked(batch)] == expected


@pytest.mark.parametrize("count", [-1, 2, 4])
def test_a_wrong_count_is_seen(count: int) -> None:
    batch = build_batch([Record(i, 1, b"k", b"v", []) for i in range(3)])
    with pytest.raises(CorruptBatch):
        walked(assemble(read_header(batch)._replace(record_count=count), batch[HEADER_SIZE:]))


def test_what_does_not_fit_into_a_large_record_is_seen() -> None:
    batch = bytearray(build_batch([Record(0, 1, b"k", b"v" * 40_000, [])]))
    at = HEADER_SIZE + 3 + 1 + 1 + 1 + 2  # behind length, attributes, deltas and key lies the value's size
    assert walked(bytes(batch)) == [Row(1, 0, 1, 40_000)]
    for size in (39_999, 40_001, 1 << 20):
        other = bytearray(3)
        other[:] = bytes([size << 1 & 0x7F | 0x80, size >> 6 & 0x7F | 0x80, size >> 13])
        batch[at : at + 3] = other
        with pytest.raises(CorruptBatch):
            walked(bytes(batch))


def stretches(batch: bytes) -> list[Stretch]:
    return list(Walk(batch, read_header(batch)))


@pytest.mark.parametrize("codec", Compression)
def test_steps_are_small_however_many_records_there_are(codec: Compression) -> None:
    records = [Record(i, i, b"k", b"v", []) for i in range(20_000)]
    sizes = [stretch.record_count for stretch in stretches(build_batch(records, compression=codec))]
    assert sum(sizes) == 20_000
    assert max(sizes) <= walking.most_at_once < 20_000
    one_with_headers = Record(0, 1, b"k", b"v", [("", b"")] * 5000)
    found = stretches(build_batch([one_with_headers] * 20, compression=codec))
    assert sum(stretch.record_count for stretch in found) == 20
    assert len(found) >= 20 * 5000 // MOST_HEADERS


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
def test_a_bomb_is_never_in_memory(codec: Compression) -> None:
    """200 MB from a few kilobytes, piece by piece; also when it goes on under another codec."""
    size = 200 << 20

    def plain() -> Iterator[bytes]:
        yield from (bytes(PIECE_BYTES) for _ in range(size // PIECE_BYTES))

    bomb = b"".join(deflate(codec, plain()))
    pieces = [len(piece) for piece in inflate(codec, bomb)]
    assert (sum(pieces), max(pieces) <= PIECE_BYTES) == (size, True)


def test_a_large_record_passes_in_pieces() -> None:
    header = read_header(build_batch([Record(0, 1, b"k", None, [])]))
    body = build_batch([Record(0, 1, b"k", bytes(8 << 20), [])])[HEADER_SIZE:]
    batch = assemble(header._replace(attributes=Compression.ZSTD), compress(Compression.ZSTD, body))
    found = stretches(batch)
    assert len(found) > (8 << 20) // PIECE_BYTES - 2
    assert [row for stretch in found for row in stretch.rows()] == [Row(1, 0, 1, 8 << 20)]


def test_a_block_of_snappy_is_not_believed_what_it_cannot_be() -> None:
    for codec in (b"", b"\x82SNAPPY\x00" + bytes(8) + (10).to_bytes(4, "big")):
        with pytest.raises(CorruptBatch, match="do not stand for"):
            list(inflate(Compression.SNAPPY, codec + b"\xff\xff\xff\x7f" + bytes(6)))
