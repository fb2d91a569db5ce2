"""Batches beside kafka-python's reader, damaged ones, and compression that must not fill the memory."""

import gzip
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from kafkapy.records.batch import (
    Compression,
    CorruptBatch,
    assemble,
    crc_matches,
    read_header,
    restamp_time,
    stamp,
    walk,
)
from kafkapy.records.builder import build_batch
from kafkapy.records.compression import compress, decompress
from kafkapy.records.control import EndMarker, build_end_marker, read_end_marker
from kafkapy.records.record import Record, read_records

RECORDS = [
    Record(0, 1000, b"k", b"v", []),
    Record(1, 1001, None, None, [("h", b"x"), ("null", None)]),
    Record(2, 999, b"", b"", []),
    Record(3, 5000, b"long", b"x" * 5000, [("h", b"")]),
]


@pytest.mark.parametrize("codec", Compression)
def test_what_is_built_reads_back_here_and_elsewhere(codec: Compression) -> None:
    data = build_batch(RECORDS, compression=codec, producer_id=9, producer_epoch=2, base_sequence=4)
    header = read_header(data)
    assert crc_matches(data, 0, header)
    assert read_records(data) == RECORDS
    assert (header.max_timestamp, header.record_count, header.compression) == (5000, 4, codec)
    theirs = DefaultRecordBatch(data)
    assert theirs.validate_crc()
    assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (9, 2, 4)
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in theirs] == [tuple(r) for r in RECORDS]


@pytest.mark.parametrize("codec", Compression)
def test_what_others_build_is_read_here(codec: Compression) -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=True,
        producer_id=9,
        producer_epoch=2,
        base_sequence=4,
        batch_size=1 << 20,
    )
    for record in RECORDS:
        builder.append(record.offset, record.timestamp, record.key, record.value, record.headers)
    data = bytes(builder.build())
    header = read_header(data)
    assert crc_matches(data, 0, header)
    assert header.is_transactional
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence) == (9, 2, 4, 7)
    assert read_records(data) == RECORDS


@given(
    st.lists(st.tuples(st.none() | st.binary(max_size=50), st.none() | st.binary(max_size=50)), min_size=1, max_size=20)
)
def test_any_keys_and_values_survive(pairs: list[tuple[bytes | None, bytes | None]]) -> None:
    records = [Record(i, 10 + i, key, value, []) for i, (key, value) in enumerate(pairs)]
    for codec in Compression:
        assert read_records(build_batch(records, compression=codec)) == records


@given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_damage_ends_in_one_named_error_or_in_records(position: int, junk: bytes) -> None:
    data = bytearray(build_batch(RECORDS[:3]))
    position %= len(data)
    data[position : position + len(junk)] = junk
    try:
        for begin, header in walk(bytes(data)):
            read_records(memoryview(data)[begin : begin + header.size_bytes])
    except CorruptBatch:
        pass


def test_a_cut_batch_is_not_walked_into() -> None:
    data = build_batch(RECORDS)
    assert [position for position, _ in walk(data + data[:-1])] == [0]
    assert [position for position, _ in walk(data + data)] == [0, len(data)]
    with pytest.raises(CorruptBatch):
        read_header(data[:60])


def test_the_stamp_changes_offset_and_epoch_and_nothing_else() -> None:
    data = build_batch(RECORDS)
    header = read_header(data)
    stamped = stamp(77, header.batch_length, 5) + data[16:]
    again = read_header(stamped)
    assert crc_matches(stamped, 0, again)
    assert (again.base_offset, again.last_offset, again.leader_epoch) == (77, 80, 5)
    assert [record.offset for record in read_records(stamped)] == [77, 78, 79, 80]


def test_log_append_time_is_every_records_time() -> None:
    data = build_batch(RECORDS, compression=Compression.GZIP)
    stamped = restamp_time(data, read_header(data), 123_456, log_append_time=True)
    header = read_header(stamped)
    assert header.is_log_append_time
    assert crc_matches(stamped, 0, header)
    assert {record.timestamp for record in read_records(stamped)} == {123_456}
    assert {record.timestamp for record in DefaultRecordBatch(stamped)} == {123_456}


@pytest.mark.parametrize("codec", [codec for codec in Compression if codec])
def test_a_bomb_is_refused_before_it_goes_off(codec: Compression) -> None:
    bomb = compress(codec, bytes(5_000_000))
    with pytest.raises(CorruptBatch):
        decompress(codec, bomb, max_size_bytes=100_000)
    assert decompress(codec, bomb, max_size_bytes=5_000_000) == bytes(5_000_000)


@pytest.mark.parametrize("codec", [codec for codec in Compression if codec])
def test_damaged_compression_is_refused(codec: Compression) -> None:
    data = compress(codec, b"some content " * 100)
    for damaged in (data[:-5], b"", b"\x00" * 20, data[:3] + b"\xff" + data[4:][:10]):
        if codec is Compression.ZSTD and not damaged:
            continue  # no frame at all holds nothing
        with pytest.raises(CorruptBatch):
            decompress(codec, damaged)


PLAIN = b"some content " * 20


@given(
    codec=st.sampled_from([codec for codec in Compression if codec]),
    position=st.integers(0, 300),
    junk=st.binary(max_size=6),
    kept=st.integers(0, 300),
)
def test_damaged_compression_ends_in_one_named_error_or_in_bytes(
    codec: Compression, position: int, junk: bytes, kept: int
) -> None:
    """Whatever a codec's library raises; and never more bytes than were allowed."""
    data = bytearray(compress(codec, PLAIN))
    position %= len(data)
    data[position : position + len(junk)] = junk
    try:
        assert len(decompress(codec, data[:kept], max_size_bytes=1000)) <= 1000
    except CorruptBatch:
        pass


def test_zstd_frames_follow_each_other() -> None:
    data = compress(Compression.ZSTD, b"a" * 100)
    assert decompress(Compression.ZSTD, data + data) == b"a" * 200
    with pytest.raises(CorruptBatch):
        decompress(Compression.ZSTD, data + data, max_size_bytes=150)


def test_snappy_is_read_bare_and_framed_with_odd_versions() -> None:
    import snappy

    plain = b"content " * 10_000
    framed = compress(Compression.SNAPPY, plain)
    odd = framed[:8] + struct.pack(">ii", 77, -3) + framed[16:]
    for data in (framed, odd, snappy.compress(plain)):
        assert decompress(Compression.SNAPPY, data) == plain


def test_a_record_count_that_cannot_be_is_refused_at_once() -> None:
    header = read_header(build_batch(RECORDS))._replace(record_count=2**31 - 1)
    with pytest.raises(CorruptBatch):
        read_records(assemble(header, b"\x00" * 40))
    with pytest.raises(CorruptBatch):
        read_records(assemble(header._replace(record_count=1, attributes=1), gzip.compress(b"\x7f")))


@pytest.mark.parametrize("committed", [True, False])
def test_markers_say_how_a_transaction_ended(committed: bool) -> None:
    data = build_end_marker(EndMarker(committed, 3), producer_id=5, producer_epoch=1, timestamp=9)
    header = read_header(data)
    assert (header.is_control, header.is_transactional, header.producer_id) == (True, True, 5)
    assert read_end_marker(data) == EndMarker(committed, 3)
