"""Produce requests of one connection over a disk that takes its time: begun in order, answered in order."""

import threading
from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.broker import Broker
from kafkapy.clock import ManualClock
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.batch import read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Bounds
from kafkapy.storage.embedded.files import Disk
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire

REQUEST_TIMED_OUT = 7
SYNCED = {"log.flush.interval.messages": "1"}


class HeldDisk(Disk):
    """A disk whose syncs end when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()

    def sync(self, paths: Sequence[str]) -> None:
        assert self.go_on.wait(30)
        super().sync(paths)


@pytest.fixture
def disk() -> HeldDisk:
    return HeldDisk()


def produce(value: bytes, *, timeout_ms: int = 30_000) -> ProduceRequest:
    batch = build_batch([Record(offset=0, timestamp=1_700_000_000_000, key=None, value=value, headers=[])])
    partition = ProduceRequest.PartitionProduceData(index=0, records=batch)
    data = [ProduceRequest.TopicProduceData(name="t", partition_data=[partition])]
    return ProduceRequest(acks=-1, timeout_ms=timeout_ms, topic_data=data)


def fetch() -> FetchRequest:
    partition = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    return FetchRequest(max_wait_ms=0, topics=[FetchRequest.FetchTopic(topic="t", partitions=[partition])])


async def make_topic(wire: Wire) -> None:
    topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=1, replication_factor=1)
    await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)


def bounds(broker: Broker) -> Bounds:
    found = broker.rooms.logs.bounds(broker.rooms.cluster.image.topic("t").partitions[0].log)  # type: ignore[union-attr]
    assert isinstance(found, Bounds)
    return found


async def until_appended(broker: Broker, count: int) -> None:
    with trio.fail_after(10):
        while bounds(broker).end_offset < count:
            await trio.lowlevel.checkpoint()


async def test_produce_requests_do_not_wait_for_each_others_sync(start_broker: StartBroker, disk: HeldDisk) -> None:
    async with start_broker(settings=SYNCED, disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire)
        disk.go_on.clear()
        try:
            for number in range(5):
                await wire.send(produce(b"%d" % number), 9)
            await wire.send(fetch(), 11)
            await until_appended(broker, 5)
            assert bounds(broker).high_watermark == 0
        finally:
            disk.go_on.set()
        answers = [(await wire.receive()).responses[0].partition_responses[0] for _ in range(5)]
        assert [(answer.error_code, answer.base_offset) for answer in answers] == [(0, n) for n in range(5)]
        [found] = (await wire.receive()).responses[0].partitions
        assert found.high_watermark == 5  # which was asked after them, and sees what they did


async def test_an_append_may_land_after_its_sender_was_told_that_the_time_is_over(
    start_broker: StartBroker, disk: HeldDisk
) -> None:
    clock = ManualClock()
    async with (
        start_broker(settings=SYNCED, disk=disk, clock=clock) as broker,
        await Wire.connect(broker.port) as wire,
    ):
        await make_topic(wire)
        disk.go_on.clear()
        try:
            await wire.send(produce(b"late", timeout_ms=1000), 9)
            await until_appended(broker, 1)
            await wait_all_tasks_blocked()
            clock.advance_ms(1000)
            answer = (await wire.receive()).responses[0].partition_responses[0]
            assert (answer.error_code, answer.base_offset) == (REQUEST_TIMED_OUT, -1)
        finally:
            disk.go_on.set()
        again = (await wire.ask(produce(b"next"), 9)).responses[0].partition_responses[0]
        assert (again.error_code, again.base_offset) == (0, 1)
        records = (await wire.ask(fetch(), 11)).responses[0].partitions[0].records
        assert read_header(records).record_count == 1


async def test_a_stop_does_not_wait_for_a_long_poll(start_broker: StartBroker) -> None:
    """On a clock that stands: by waiting for the time to pass it would not end."""
    with trio.fail_after(30):
        async with start_broker(clock=ManualClock()) as broker:
            wire = await Wire.connect(broker.port)
            await make_topic(wire)
            polling = fetch()
            polling.max_wait_ms = 600_000
            polling.min_bytes = 1
            await wire.send(polling, 11)
            await wait_all_tasks_blocked(0.01)
        assert await wire.is_closed()
        await wire.stream.aclose()
