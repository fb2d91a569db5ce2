"""Compacted topics as a client and an operator know them."""

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.broker import Broker
from kafkapy.clock import ManualClock
from kafkapy.model import LogId
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.protocol.messages.offset_commit import OffsetCommitRequest
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest
from kafkapy.records.batch import walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, fetch, fill, make_topic

NOW_MS = 1_700_000_000_000
OFTEN = {
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.retention.check.interval.ms": "1000",
    "connections.max.idle.ms": "100000000",
}


async def write(wire: Wire, key: bytes, size: int = 300_000, *, at: int = NOW_MS) -> None:
    await fill(wire, "t", [0], build_batch([Record(0, at, key, random.randbytes(size), [])]))


async def read(port: int) -> list[tuple[int, bytes | None]]:
    """Offset and key of all that is left."""
    found: list[tuple[int, bytes | None]] = []
    async with await Wire.connect(port) as wire:
        [start] = (await wire.ask(fetch("t", {0: 0}), FETCH)).responses[0].partitions
        offset = max(start.log_start_offset, 0)
        while True:
            [piece] = (await wire.ask(fetch("t", {0: offset}), FETCH)).responses[0].partitions
            if not piece.records:
                return found
            for position, header in walk(piece.records):
                batch = memoryview(piece.records)[position : position + header.size_bytes]
                found += [(record.offset, record.key) for record in read_records(batch)]
                offset = header.next_offset


async def until_left(clock: ManualClock, port: int, expected: list[int]) -> None:
    """Let time pass until these offsets are left."""
    with trio.fail_after(20):
        while [offset for offset, _ in await read(port)] != expected:
            clock.advance_ms(1000)
            await wait_all_tasks_blocked()


async def set_topic(wire: Wire, **settings: str) -> None:
    configs = [
        IncrementalAlterConfigsRequest.AlterableConfig(name=name.replace("_", "."), value=value)
        for name, value in settings.items()
    ]
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(resource_type=2, resource_name="t", configs=configs)
    answer = await wire.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1)
    assert answer.responses[0].error_code == 0, answer.responses[0]


@pytest.mark.parametrize("memory", [True, False])
async def test_the_policy_acts_on_the_live_log(start_broker: StartBroker, memory: bool) -> None:
    clock = ManualClock(NOW_MS)
    async with (
        start_broker(memory=memory, settings={**OFTEN, "log.flush.interval.messages": "1"}, clock=clock) as broker,
        await Wire.connect(broker.port) as wire,
    ):
        await make_topic(wire, "t", 1, segment_bytes=str(1 << 20), retention_ms="3600000", file_delete_delay_ms="0")
        for number in range(8):
            await write(wire, b"k%d" % (number % 2))
        clock.advance_ms(5000)
        await wait_all_tasks_blocked()
        assert [offset for offset, _ in await read(broker.port)] == list(range(8))
        await set_topic(wire, cleanup_policy="compact")
        await until_left(clock, broker.port, [4, 5, 6, 7])  # the last two segments: one is in use
        clock.advance_ms(4_000_000)
        await wait_all_tasks_blocked()
        assert [offset for offset, _ in await read(broker.port)] == [4, 5, 6, 7]
        await write(wire, b"k0", at=NOW_MS + 4_000_000)
        await write(wire, b"k0", at=NOW_MS + 4_000_000)
        await until_left(clock, broker.port, [7, 8, 9])
        await set_topic(wire, cleanup_policy="compact,delete")
        await until_left(clock, broker.port, [7, 8, 9])
        clock.advance_ms(4_000_000)
        await until_left(clock, broker.port, [])


async def test_nothing_is_cleaned_where_the_operator_says_so(start_broker: StartBroker) -> None:
    clock = ManualClock(NOW_MS)
    async with (
        start_broker(memory=True, settings={**OFTEN, "log.cleaner.enable": "false"}, clock=clock) as broker,
        await Wire.connect(broker.port) as wire,
    ):
        await make_topic(wire, "t", 1, segment_bytes=str(1 << 20), cleanup_policy="compact")
        for _ in range(8):
            await write(wire, b"k")
        clock.advance_ms(60_000)
        await wait_all_tasks_blocked()
        assert len(await read(broker.port)) == 8


async def test_committed_offsets_stay_small_and_are_known_after_a_start(start_broker: StartBroker) -> None:
    clock = ManualClock(NOW_MS)
    settings = {**OFTEN, "offsets.topic.num.partitions": "1", "offsets.topic.segment.bytes": str(1 << 20)}

    async def commit(wire: Wire, offset: int) -> None:
        partitions = [
            OffsetCommitRequest.OffsetCommitRequestPartition(
                partition_index=index, committed_offset=offset + index, committed_metadata="." * 3000
            )
            for index in range(3)
        ]
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=partitions)
        request = OffsetCommitRequest(group_id="g", generation_id_or_member_epoch=-1, topics=[topic])
        answer = await wire.ask(request, 8)
        assert {p.error_code for p in answer.topics[0].partitions} == {0}

    async def committed(wire: Wire) -> list[int]:
        with trio.fail_after(10):
            while True:
                topic = OffsetFetchRequest.OffsetFetchRequestTopic(name="t", partition_indexes=[0, 1, 2])
                answer = await wire.ask(OffsetFetchRequest(group_id="g", topics=[topic]), 7)
                if not answer.error_code:
                    return [p.committed_offset for p in answer.topics[0].partitions]

    def offsets_log(broker: Broker) -> LogId:
        return broker.rooms.cluster.image.topics["__consumer_offsets"].partitions[0].log

    async with start_broker(settings=settings, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 3)
        await wire.ask(FindCoordinatorRequest(key_type=0, coordinator_keys=["g"]), 4)
        await committed(wire)
        for offset in range(500):
            await commit(wire, offset)
        logs, log = broker.rooms.logs, offsets_log(broker)
        before = logs.size_bytes(log)
        with trio.fail_after(20):
            while logs.size_bytes(log) > 1_200_000:
                clock.advance_ms(1000)
                await wait_all_tasks_blocked()
        assert before > 4_000_000
        assert await committed(wire) == [499, 500, 501]
    for _ in range(2):
        async with start_broker(settings=settings, clock=clock) as broker, await Wire.connect(broker.port) as wire:
            assert await committed(wire) == [499, 500, 501]
