"""Limits that a user sets, as clients and the data directory show them."""

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.protocol.messages.fetch import FetchResponse
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.records.batch import read_header, walk
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, batch_of, fetch, fill, make_topic, produce

BATCH = batch_of(2000)
NOW_MS = read_header(BATCH).max_timestamp


def counts(answer: FetchResponse) -> list[int]:
    """How many whole batches an answer brings of each partition."""
    found = {p.partition_index: len(p.records or b"") // len(BATCH) for t in answer.responses for p in t.partitions}
    return [found[partition] for partition in sorted(found)]


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [2, 2, 2]),
        ({"max_bytes": 3 * len(BATCH)}, [2, 1, 0]),
        ({"partition_max_bytes": len(BATCH)}, [1, 1, 1]),
        ({"partition_max_bytes": len(BATCH), "max_bytes": 2 * len(BATCH)}, [1, 1, 0]),
        ({"partition_max_bytes": 1}, [1, 0, 0]),  # the first batch comes whole, so that a reader gets on (KIP-74)
        ({"max_bytes": 1}, [1, 0, 0]),
        ({"max_bytes": 0, "partition_max_bytes": 0}, [1, 0, 0]),
    ],
)
async def test_a_fetch_brings_no_more_than_it_asks_for(
    start_broker: StartBroker, memory: bool, limits: dict[str, int], expected: list[int]
) -> None:
    async with start_broker(memory=memory) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 3, index_interval_bytes="0")
        for _ in range(2):
            await fill(wire, "t", range(3), BATCH)
        answer = await wire.ask(fetch("t", dict.fromkeys(range(3), 0), **limits), FETCH)
        assert counts(answer) == expected


@pytest.mark.parametrize("memory", [True, False])
async def test_no_fetch_brings_more_than_the_broker_allows(start_broker: StartBroker, memory: bool) -> None:
    """fetch.max.bytes; nor does it wait for more than it would be given."""
    settings = {"fetch.max.bytes": str(3 * len(BATCH))}
    async with start_broker(memory=memory, settings=settings) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 3, index_interval_bytes="0")
        for _ in range(2):
            await fill(wire, "t", range(3), BATCH)
        request = fetch("t", dict.fromkeys(range(3), 0), max_wait_ms=600_000, min_bytes=100 * len(BATCH))
        with trio.fail_after(20):
            assert counts(await wire.ask(request, FETCH)) == [2, 1, 0]


@pytest.mark.parametrize(("allowed", "error"), [(len(BATCH), Error.NONE), (len(BATCH) - 1, Error.MESSAGE_TOO_LARGE)])
@pytest.mark.parametrize("of_topic", [True, False])
async def test_a_batch_may_be_as_large_as_allowed(
    start_broker: StartBroker, of_topic: bool, allowed: int, error: Error
) -> None:
    settings = {"message.max.bytes": "10" if of_topic else str(allowed)}
    config = {"max_message_bytes": str(allowed)} if of_topic else {}
    async with start_broker(memory=True, settings=settings) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, **config)
        answer = await wire.ask(produce("t", [0], BATCH), PRODUCE)
        assert answer.responses[0].partition_responses[0].error_code == error


HOUR_MS = 3_600_000


@pytest.mark.parametrize("of_topic", [True, False])
@pytest.mark.parametrize(
    ("setting", "value", "time_ms", "error"),
    [
        ("message.timestamp.before.max.ms", HOUR_MS, NOW_MS - HOUR_MS, Error.NONE),
        ("message.timestamp.before.max.ms", HOUR_MS, NOW_MS - HOUR_MS - 1, Error.INVALID_TIMESTAMP),
        ("message.timestamp.after.max.ms", HOUR_MS, NOW_MS + HOUR_MS, Error.NONE),
        ("message.timestamp.after.max.ms", HOUR_MS, NOW_MS + HOUR_MS + 1, Error.INVALID_TIMESTAMP),
        ("message.timestamp.type", "LogAppendTime", NOW_MS + 100 * HOUR_MS, Error.NONE),
    ],
)
async def test_times_may_differ_as_much_as_allowed(
    start_broker: StartBroker, of_topic: bool, setting: str, value: object, time_ms: int, error: Error
) -> None:
    """By default an hour ahead and any time back, as in Kafka; nothing else matters where the log's time counts."""
    settings = {} if of_topic else {f"log.{setting}": str(value)}
    config = {setting.replace(".", "_"): str(value)} if of_topic else {}
    options = {"memory": True, "settings": settings, "clock": ManualClock(NOW_MS)}
    async with start_broker(**options) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, **config)
        answer = await wire.ask(produce("t", [0], batch_of(100, at=time_ms)), PRODUCE)
        [told] = answer.responses[0].partition_responses
        assert told.error_code == error
        assert told.log_append_time_ms == (NOW_MS if value == "LogAppendTime" else -1)
        assert [e.batch_index for e in told.record_errors] == ([0] if error else [])
        found = (await wire.ask(fetch("t", {0: 0}), FETCH)).responses[0].partitions[0].records
        stored = [header.max_timestamp for _, header in walk(bytes(found or b""))]
        assert stored == ([] if error else [NOW_MS if value == "LogAppendTime" else time_ms])


def segments(directory: Path, topic: str, partition: int) -> list[int]:
    """The offsets at which a partition's segments begin."""
    return sorted(int(path.stem) for path in (directory / f"{topic}-{partition}").glob("*.log"))


async def test_the_partitions_of_a_topic_do_not_all_begin_a_segment_at_once(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """segment.jitter.ms: each is up to that much earlier than segment.ms, and none is later."""
    count = 20
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "even", count, segment_ms="10000")
        await make_topic(wire, "uneven", count, segment_ms="10000", segment_jitter_ms="9000")
        for second in range(12):
            for topic in ("even", "uneven"):
                await fill(wire, topic, range(count), batch_of(100, at=NOW_MS + second * 1000))
        directory = tmp_path / "data"
        even, uneven = ([segments(directory, topic, n)[1] for n in range(count)] for topic in ("even", "uneven"))
        assert set(even) == {11}
        assert len(set(uneven)) > 1
        assert all(2 <= first <= 11 for first in uneven)


@pytest.mark.parametrize("memory", [True, False])
async def test_records_that_are_kept_no_longer_are_gone(start_broker: StartBroker, memory: bool) -> None:
    """retention.ms, at the times that log.retention.check.interval.ms sets; but of a topic that is only compacted."""
    clock = ManualClock(NOW_MS)
    settings = {"log.retention.check.interval.ms": "1000", "log.retention.hours": "1"}
    async with (
        start_broker(memory=memory, settings=settings, clock=clock) as broker,
        await Wire.connect(broker.port) as wire,
    ):
        await make_topic(wire, "hour", 1)
        await make_topic(wire, "second", 1, retention_ms="1000")
        await make_topic(wire, "compacted", 1, retention_ms="1000", cleanup_policy="compact")
        for topic in ("hour", "second", "compacted"):
            await fill(wire, topic, [0], BATCH)

        async def starts_after(duration_ms: int) -> list[int]:
            clock.advance_ms(duration_ms)
            await wait_all_tasks_blocked()
            async with await Wire.connect(broker.port) as wire:
                found = [await wire.ask(fetch(topic, {0: 1}), FETCH) for topic in ("hour", "second", "compacted")]
            return [answer.responses[0].partitions[0].log_start_offset for answer in found]

        assert await starts_after(29_000) == [0, 0, 0]  # log.initial.task.delay.ms
        assert await starts_after(2_000) == [0, 1, 0]
        assert await starts_after(3_600_000) == [1, 1, 0]
        async with await Wire.connect(broker.port) as wire:
            gone = (await wire.ask(fetch("second", {0: 0}), FETCH)).responses[0].partitions[0]
        assert gone.error_code == Error.OFFSET_OUT_OF_RANGE


async def test_limits_of_addresses_that_make_no_sense_end_no_broker(start_broker: StartBroker) -> None:
    """They are refused, or where only a name cannot be found, as in Kafka taken, and act once it can be."""

    async def limit(wire: Wire, text: str) -> int:
        asked = IncrementalAlterConfigsRequest.AlterableConfig(
            name="max.connections.per.ip.overrides", config_operation=0, value=text
        )
        resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
            resource_type=4, resource_name="", configs=[asked]
        )
        [answer] = (await wire.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1)).responses
        return answer.error_code

    for kept in range(2):
        async with start_broker() as broker, await Wire.connect(broker.port) as wire:
            for text in ("nonsense", "127.0.0.1", "127.0.0.1:many", "a b:1", ":1", "127.0.0.1:99999999999"):
                assert await limit(wire, text) == Error.INVALID_REQUEST
            assert await limit(wire, "no..name:1") == 0, kept
            assert await limit(wire, "127.0.0.1:1") == 0
            async with await Wire.connect(broker.port) as second:
                assert await second.is_closed()
            assert await limit(wire, "no..name:1") == 0
