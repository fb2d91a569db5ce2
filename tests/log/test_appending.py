"""What a topic's settings ask of single records, however many and however packed, and what is done with them."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG
from catalogues import create

from kafkapy.clock import ManualClock
from kafkapy.config.layers import BrokerConfig, TopicConfig
from kafkapy.errors import Error
from kafkapy.log.appending import AppendResult, BatchToAppend, append
from kafkapy.model import IsolationLevel
from kafkapy.records.batch import HEADER_SIZE, Compression, assemble, crc_matches, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.compression import compress
from kafkapy.records.record import Record, read_records
from kafkapy.storage.base import Logs, Read
from kafkapy.storage.memory import open_memory
from kafkapy.turns import Turns

NOW_MS = 1_700_000_000_000
COUNT = 3000


@pytest.fixture
async def logs():
    async with open_memory(ManualClock(NOW_MS)) as store:
        await create(store, LOG)
        yield store


async def put(logs: Logs, data: bytes, **settings: str) -> AppendResult:
    config = TopicConfig({name.replace("_", "."): value for name, value in settings.items()}, BrokerConfig.load())
    sent = BatchToAppend(LOG, config, 0, 1, 1, data)
    results = await append(logs, ManualClock(NOW_MS), Turns(), [sent], acks=-1, api_version=9, timeout_ms=1000)
    assert isinstance(results, list)
    return results[0]


async def stored(logs: Logs) -> bytes:
    [piece] = await logs.read([Read(LOG, 0, 1 << 20, IsolationLevel.READ_UNCOMMITTED)], 1 << 20)
    return bytes(piece.records)


def records(without_key: Sequence[int] = (), times: dict[int, int] | None = None) -> list[Record]:
    return [
        Record(i, (times or {}).get(i, NOW_MS), None if i in without_key else b"k", b"v%d" % i, [("h", b"x")])
        for i in range(COUNT)
    ]


@pytest.mark.parametrize("codec", [Compression.NONE, Compression.GZIP, Compression.SNAPPY])
async def test_each_record_without_a_key_is_named(logs: Logs, codec: Compression) -> None:
    bad = [0, 511, 512, 1999, COUNT - 1]
    result = await put(logs, build_batch(records(bad), compression=codec), cleanup_policy="compact")
    assert (result.error, [error.position for error in result.record_errors]) == (Error.INVALID_RECORD, bad)
    why = f"Compacted topic cannot accept message without key in topic partition {LOG}"
    shown = [f"RecordError(batchIndex={position}, message='{why}')" for position in bad[:3]]
    assert result.message == (
        "One or more records have been rejected due to 5 record errors in total, "
        f"and only showing the first three errors at most: [{', '.join(shown)}]"
    )
    assert logs.bounds(LOG).end_offset == 0
    assert (await put(logs, build_batch(records(), compression=codec), cleanup_policy="compact")).error is Error.NONE


async def test_each_time_out_of_bounds_is_named(logs: Logs) -> None:
    times = {0: NOW_MS - 1001, 5: NOW_MS - 1000, 700: -1, 2000: NOW_MS + 2001, 2001: NOW_MS + 2000}
    bounds = {"message_timestamp_before_max_ms": "1000", "message_timestamp_after_max_ms": "2000"}
    result = await put(logs, build_batch(records(times=times)), **bounds)
    assert (result.error, [error.position for error in result.record_errors]) == (Error.INVALID_TIMESTAMP, [0, 2000])
    assert result.message == "One or more records have been rejected due to invalid timestamp"
    assert result.record_errors[1].message == (
        f"Timestamp {NOW_MS + 2001} of message with offset 2000 is out of range. "
        f"The timestamp should be within [{NOW_MS - 1000}, {NOW_MS + 2000}]"
    )
    assert (await put(logs, build_batch(records(times={5: NOW_MS - 1000, 700: -1})), **bounds)).error is Error.NONE


async def test_a_bad_time_outweighs_a_missing_key(logs: Logs) -> None:
    data = build_batch(records([1], {2000: 5}))
    result = await put(logs, data, cleanup_policy="compact", message_timestamp_before_max_ms="1000")
    assert (result.error, [error.position for error in result.record_errors]) == (Error.INVALID_TIMESTAMP, [1, 2000])


@pytest.mark.parametrize("given", Compression)
@pytest.mark.parametrize("wanted", ["uncompressed", "gzip", "snappy", "lz4", "zstd"])
async def test_a_topic_has_its_own_compression(logs: Logs, given: Compression, wanted: str) -> None:
    data = build_batch(
        records(times={7: NOW_MS + 5}), compression=given, producer_id=4, producer_epoch=1, base_sequence=8
    )
    lying = read_header(data)._replace(max_timestamp=NOW_MS)
    assert (await put(logs, assemble(lying, data[HEADER_SIZE:]), compression_type=wanted)).error is Error.NONE
    batch = await stored(logs)
    header = read_header(batch)
    assert crc_matches(batch, 0, header)
    assert header.compression.name.lower() == ("none" if wanted == "uncompressed" else wanted)
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.record_count) == (4, 1, 8, COUNT)
    assert read_records(batch) == records(times={7: NOW_MS + 5})
    if header.compression is not given:
        assert header.max_timestamp == NOW_MS + 5  # what the producer says of it is not believed, as in Kafka


async def test_what_is_too_large_under_the_topics_codec_is_refused(logs: Logs) -> None:
    plain = build_batch([Record(0, NOW_MS, b"k", bytes(5 << 20), [])])
    header = read_header(plain)._replace(attributes=Compression.ZSTD)
    small = assemble(header, compress(Compression.ZSTD, plain[HEADER_SIZE:]))
    assert (await put(logs, small, compression_type="uncompressed")).error is Error.MESSAGE_TOO_LARGE
    assert (await put(logs, small, compression_type="gzip")).error is Error.NONE
    assert [len(record.value or b"") for record in read_records(await stored(logs))] == [5 << 20]


@pytest.mark.parametrize("wanted", ["producer", "gzip"])
async def test_a_topic_may_give_its_own_time(logs: Logs, wanted: str) -> None:
    """Whatever its records say, and whether or not they are put under another codec."""
    result = await put(logs, build_batch(records()), message_timestamp_type="LogAppendTime", compression_type=wanted)
    assert (result.error, result.log_append_time_ms) == (Error.NONE, NOW_MS)
    batch = await stored(logs)
    header = read_header(batch)
    assert crc_matches(batch, 0, header)
    assert (header.is_log_append_time, header.max_timestamp) == (True, NOW_MS)
    assert {record.timestamp for record in read_records(batch)} == {NOW_MS}


@pytest.mark.parametrize("count", [1, 3])
async def test_times_before_there_was_time_are_none(logs: Logs, count: int) -> None:
    data = build_batch([Record(i, -9, b"k", b"v", []) for i in range(count)])
    assert (await put(logs, data)).error is Error.NONE
    assert read_header(await stored(logs)).max_timestamp == -1


async def test_the_answer_tells_where_the_batch_is_and_where_the_log_begins(logs: Logs) -> None:
    data = build_batch([Record(0, NOW_MS, b"k", b"v", [])])
    for offset in range(3):
        result = await put(logs, data)
        assert (result.base_offset, result.log_start_offset) == (offset, 0)
    await logs.trim(LOG, 2)
    result = await put(logs, data)
    assert (result.base_offset, result.log_start_offset, result.log_append_time_ms) == (3, 2, -1)
    unknown_producer = build_batch(
        [Record(0, NOW_MS, b"k", b"v", [])], producer_id=4, producer_epoch=0, base_sequence=8
    )
    assert (await put(logs, unknown_producer)).error is Error.NONE
    stranger = build_batch([Record(0, NOW_MS, b"k", b"v", [])], producer_id=4, producer_epoch=0, base_sequence=99)
    refused = await put(logs, stranger)
    assert (refused.error, refused.base_offset) == (Error.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert refused.log_start_offset == 2
