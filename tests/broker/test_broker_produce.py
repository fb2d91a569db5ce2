"""What a topic lets a producer write, and makes of it: told, refused and stored as by Apache Kafka."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import batch, sent

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.protocol.messages.produce import ProduceRequest, ProduceResponse
from kafkapy.records.batch import Compression, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records
from kafkapy.storage.embedded.files import Disk
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, fetch, make_topic, produce

NOW_MS = 1_700_000_000_000

Answer = ProduceResponse.PartitionProduceResponse


async def answer_to(wire: Wire, records: bytes, *, version: int = PRODUCE, acks: int = -1) -> Answer:
    answer = await wire.ask(produce("t", [0], records, acks=acks), version)
    [found] = answer.responses[0].partition_responses
    return found


async def stored(wire: Wire) -> bytes:
    answer = await wire.ask(fetch("t", {0: 0}), FETCH)
    return bytes(answer.responses[0].partitions[0].records)


def errors_of(answer: Answer) -> list[tuple[int, str]]:
    return [(error.batch_index, error.batch_index_error_message) for error in answer.record_errors]


def at_times(*times: int) -> bytes:
    return build_batch([Record(i, time, b"k", b"v", []) for i, time in enumerate(times)])


@pytest.mark.parametrize(
    ("config", "time", "allowed"),
    [
        ({}, NOW_MS + 3_600_000, True),
        ({}, NOW_MS + 3_600_001, False),
        ({}, 0, True),
        ({"message_timestamp_after_max_ms": "1000"}, NOW_MS + 1000, True),
        ({"message_timestamp_after_max_ms": "1000"}, NOW_MS + 1001, False),
        ({"message_timestamp_before_max_ms": "1000"}, NOW_MS - 1000, True),
        ({"message_timestamp_before_max_ms": "1000"}, NOW_MS - 1001, False),
        ({"message_timestamp_before_max_ms": "1000"}, -1, True),  # a record without a time
        ({"message_timestamp_before_max_ms": "1000", "message_timestamp_type": "LogAppendTime"}, 5, True),
        ({"message_timestamp_after_max_ms": "0", "message_timestamp_type": "LogAppendTime"}, NOW_MS + 5, True),
    ],
)
async def test_the_times_of_records_have_bounds(
    start_broker: StartBroker, config: dict[str, str], time: int, allowed: bool
) -> None:
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, **config)
        answer = await answer_to(wire, at_times(NOW_MS, time))
        if allowed:
            assert answer.error_code == 0
            return
        low = NOW_MS - int(config.get("message_timestamp_before_max_ms", 2**63 - 1))
        high = NOW_MS + int(config.get("message_timestamp_after_max_ms", 3_600_000))
        assert answer.error_code == Error.INVALID_TIMESTAMP
        assert answer.error_message == "One or more records have been rejected due to invalid timestamp"
        assert errors_of(answer) == [
            (
                1,
                f"Timestamp {time} of message with offset 1 is out of range. "
                f"The timestamp should be within [{low}, {high}]",
            )
        ]
        assert (answer.base_offset, answer.log_start_offset, answer.log_append_time_ms) == (-1, 0, -1)
        assert await stored(wire) == b""


@pytest.mark.parametrize("times", ["CreateTime", "LogAppendTime"])
async def test_whose_time_a_record_bears(start_broker: StartBroker, times: str) -> None:
    clock = ManualClock(NOW_MS)
    async with start_broker(memory=True, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, message_timestamp_type=times)
        data = sent(0, b"a", b"b", at=NOW_MS - 50)
        first = await answer_to(wire, data)
        clock.advance_ms(70)
        again = await answer_to(wire, data)
        header = read_header(await stored(wire))
        by_broker = times == "LogAppendTime"
        assert header.is_log_append_time is by_broker
        assert header.max_timestamp == (NOW_MS if by_broker else NOW_MS - 49)
        assert [answer.base_offset for answer in (first, again)] == [0, 0]
        assert first.log_append_time_ms == (NOW_MS if by_broker else -1)
        # A repeat is told of the time that the first had.
        assert again.log_append_time_ms == (NOW_MS if by_broker else NOW_MS - 49)


@pytest.mark.parametrize("kept", ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("came", list(Compression))
async def test_a_topic_may_have_its_own_compression(start_broker: StartBroker, kept: str, came: Compression) -> None:
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, compression_type=kept)
        records = [Record(i, NOW_MS + i, b"k%d" % i, b"v" * 100, [("h", b"x")]) for i in range(3)]
        data = build_batch(records, compression=came, producer_id=9, producer_epoch=1, base_sequence=0)
        assert (await answer_to(wire, data)).error_code == 0
        found = await stored(wire)
        header = read_header(found)
        kept_as = "none" if kept == "uncompressed" else kept
        expected = came if kept == "producer" else Compression[kept_as.upper()]
        assert header.compression is expected
        assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 1, 0)
        assert [tuple(record) for record in read_records(found)] == [tuple(record) for record in records]


@pytest.mark.parametrize(("level", "codec"), [(1, "gzip"), (9, "gzip"), (1, "zstd"), (19, "zstd")])
async def test_compression_is_as_thorough_as_set(start_broker: StartBroker, level: int, codec: str) -> None:
    words = [b"%d %d %d" % (n * n % 977, n * 31 % 1013, n % 7) for n in range(3000)]
    data = batch(*words, at=NOW_MS)
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, compression_type=codec, **{f"compression_{codec}_level": str(level)})
        await answer_to(wire, data)
        expected = batch(*words, at=NOW_MS, compression=Compression[codec.upper()], compression_level=level)
        assert len(await stored(wire)) == len(expected)


async def test_a_compacted_topic_takes_no_record_without_a_key(start_broker: StartBroker) -> None:
    keys = [b"k", None, b"k", None]
    data = build_batch([Record(i, NOW_MS, key, b"v", []) for i, key in enumerate(keys)])
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, cleanup_policy="compact")
        answer = await answer_to(wire, data)
        assert answer.error_code == Error.INVALID_RECORD
        problem = "Compacted topic cannot accept message without key in topic partition t-0"
        assert answer.error_message == (
            "One or more records have been rejected due to 2 record errors in total, and only showing the first three "
            f"errors at most: [RecordError(batchIndex=1, message='{problem}'), "
            f"RecordError(batchIndex=3, message='{problem}')]"
        )
        assert errors_of(answer) == [(1, problem), (3, problem)]
        assert (await answer_to(wire, batch(b"with a key", at=NOW_MS))).base_offset == 0


@pytest.mark.parametrize("more", [0, 1])
async def test_a_batch_must_fit_into_a_segment(start_broker: StartBroker, more: int) -> None:
    size = 1 << 20
    overhead = len(batch(bytes(size - 100))) - (size - 100)
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, segment_bytes=str(size), max_message_bytes=str(2 * size))
        answer = await answer_to(wire, batch(bytes(size - overhead + more), at=NOW_MS))
        assert answer.error_code == (Error.RECORD_LIST_TOO_LARGE if more else Error.NONE)
        assert (answer.error_message, answer.record_errors) == (None, [])


async def test_more_replicas_in_sync_than_there_are_cannot_be_asked_for(start_broker: StartBroker) -> None:
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, min_insync_replicas="2")
        assert [(await answer_to(wire, batch(b"v", at=NOW_MS), acks=acks)).error_code for acks in (-1, 1)] == [0, 0]
        assert (await answer_to(wire, batch(b"v", at=NOW_MS), acks=2)).error_code == Error.INVALID_REQUIRED_ACKS


def damaged(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


PLAIN = batch(b"v", at=NOW_MS)
REFUSED: dict[str, tuple[Any, Error]] = {
    "a flipped bit": (damaged(PLAIN, -3 % len(PLAIN), 99), Error.CORRUPT_MESSAGE),
    "two batches": (PLAIN + PLAIN, Error.INVALID_RECORD),
    "half a batch": (PLAIN[:-1], Error.INVALID_RECORD),
    "nothing": (b"", Error.INVALID_RECORD),
    "an old message": (damaged(PLAIN, 16, 1), Error.INVALID_RECORD),
    "a base offset": (damaged(PLAIN, 7, 1), Error.INVALID_RECORD),
    "a marker": (build_batch([Record(0, NOW_MS, b"k", b"v", [])], control=True), Error.INVALID_RECORD),
    "no sequence": (batch(b"v", at=NOW_MS, producer_id=3, producer_epoch=0), Error.INVALID_RECORD),
    "a gap": (build_batch([Record(i, NOW_MS, b"k", b"v", []) for i in (0, 2)]), Error.INVALID_RECORD),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_sound_batch_is_refused_alone(start_broker: StartBroker, what: str) -> None:
    """The other partitions of the request are none the worse for it."""
    data, error = REFUSED[what]
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        found, stored = await between_sound_ones(wire, data)
        assert [(p.error_code, p.base_offset) for p in found] == [(0, 0), (error, -1), (0, 0)]
        assert stored == [True, False, True]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (damaged(PLAIN, 16, 3), Error.CORRUPT_MESSAGE, "Invalid magic found in record: 3"),
        (bytes(12), Error.CORRUPT_MESSAGE, "Record size 0 is less than the minimum record overhead (14)"),
        (bytes(8) + b"\x7f" + b"\xff" * 3 + PLAIN[12:], Error.UNKNOWN_SERVER_ERROR, None),
    ],
)
async def test_what_cannot_be_a_batch_refuses_the_request(
    start_broker: StartBroker, data: bytes, error: Error, message: str | None
) -> None:
    """Kafka asks each partition first whether it holds a transaction's batch: where it cannot tell, nothing is done."""
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        found, stored = await between_sound_ones(wire, data)
        assert [(p.error_code, p.base_offset, p.error_message) for p in found] == [(error, -1, message)] * 3
        assert stored == [False, False, False]


async def between_sound_ones(wire: Wire, data: bytes) -> tuple[list[Any], list[bool]]:
    """What is said of a partition's bytes and of its two neighbours, and which of the three then hold something."""
    await make_topic(wire, "t", 3)
    parts = [(0, PLAIN), (1, data), (2, PLAIN)]
    topic = ProduceRequest.TopicProduceData(
        name="t",
        partition_data=[ProduceRequest.PartitionProduceData(index=index, records=records) for index, records in parts],
    )
    answer = await wire.ask(ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[topic]), PRODUCE)
    fetched = await wire.ask(fetch("t", {0: 0, 1: 0, 2: 0}), FETCH)
    return answer.responses[0].partition_responses, [bool(p.records) for p in fetched.responses[0].partitions]


@pytest.mark.parametrize(("version", "error"), [(6, Error.UNSUPPORTED_COMPRESSION_TYPE), (7, Error.NONE)])
async def test_zstd_came_with_version_7(start_broker: StartBroker, version: int, error: Error) -> None:
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        data = batch(b"v", at=NOW_MS, compression=Compression.ZSTD)
        assert (await answer_to(wire, data, version=version)).error_code == error


@pytest.mark.parametrize("version", [4, 9, 10, 11])
async def test_what_is_kept_in_zstd_is_served_to_clients_of_any_age(start_broker: StartBroker, version: int) -> None:
    """Kafka 4 leaves it to them whether they can read it; a client of before 2.1 got an error for it from Kafka 3."""
    async with start_broker(memory=True, clock=ManualClock(NOW_MS)) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, compression_type="zstd")
        assert (await answer_to(wire, batch(b"v", at=NOW_MS))).error_code == Error.NONE
        [found] = (await wire.ask(fetch("t", {0: 0}), version)).responses[0].partitions
        assert found.error_code == Error.NONE
        assert read_header(found.records).compression is Compression.ZSTD


class FullDisk(Disk):
    """Has no room for a topic's folder."""

    def make_folder(self, path: Path, *, parents: bool = False) -> None:
        if path.name == "t-0":
            raise OSError(28, "No space left on device")
        super().make_folder(path, parents=parents)


@pytest.mark.parametrize(
    ("version", "error"),
    [(4, Error.NOT_LEADER_OR_FOLLOWER), (5, Error.NOT_LEADER_OR_FOLLOWER), (6, Error.KAFKA_STORAGE_ERROR)],
)
async def test_a_disk_that_fails_is_told_in_a_word_that_the_client_knows(
    start_broker: StartBroker, version: int, error: Error
) -> None:
    """Of an error that it does not know, a client would think that it is final."""
    async with start_broker(disk=FullDisk()) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        [found] = (await wire.ask(fetch("t", {0: 0}), version)).responses[0].partitions
        assert found.error_code == error
