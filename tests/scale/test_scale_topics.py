"""Topics of thousands of partitions: made, described and started again with work that grows as they do, not faster."""

from kafkapy.protocol.messages.metadata import MetadataRequest
from tests.broker.wire import Wire
from tests.scale.asking import batch_of, fill, make_topic
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, CountingDisk, counted_calls, counted_steps

WIDE = 1000 * SCALE


async def test_a_wide_topic_is_made_with_a_few_calls_a_partition(start_broker: StartBroker) -> None:
    disk = CountingDisk()
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "first", 1)
        disk.reset()
        with counted_steps() as steps:
            await make_topic(wire, "wide", WIDE)
        assert disk.calls.total() <= 4 * WIDE, disk.calls
        assert disk.written <= 200 * WIDE
        assert steps.total <= 3 * WIDE, steps.by_task.most_common(5)


async def test_a_topic_costs_no_more_beside_many(start_broker: StartBroker) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "warm", 10)
        with counted_calls() as beside_few:
            await make_topic(wire, "first", 10)
        await make_topic(wire, "wide", WIDE)
        with counted_calls() as beside_many:
            await make_topic(wire, "last", 10)
        assert beside_many.total() <= beside_few.total() + WIDE // 2, beside_many.most_common(5)


async def test_all_topics_are_written_once_for_all_who_ask(start_broker: StartBroker) -> None:
    everything = MetadataRequest(topics=None)
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        for number in range(100):
            await make_topic(wire, f"topic-{number}", 10 * SCALE)
        first = await wire.ask(everything, 12)
        with counted_calls() as calls:
            again = await wire.ask(everything, 12)
        assert again == first and len(again.topics) == 100
        ours = {name: count for name, count in calls.items() if "decode" not in name}  # the client is in this thread
        assert sum(ours.values()) <= 100 + 200, calls.most_common(5)  # who may know a topic is asked each time


async def test_a_wide_topic_is_described_from_memory(start_broker: StartBroker) -> None:
    disk = CountingDisk()
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "wide", WIDE)
        disk.reset()
        topics = [MetadataRequest.MetadataRequestTopic(name="wide")]
        with counted_steps() as steps:
            answer = await wire.ask(MetadataRequest(topics=topics), 8)
        assert len(answer.topics[0].partitions) == WIDE
        assert not disk.calls
        assert steps.total <= 100 * SCALE, steps.by_task


async def test_a_start_does_not_look_into_logs_that_are_empty(start_broker: StartBroker) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "wide", WIDE)
    disk = CountingDisk()
    async with start_broker(disk=disk):
        assert disk.calls.total() <= WIDE + 100, disk.calls  # each folder is asked when it was changed


async def test_a_start_reads_each_log_a_few_times(start_broker: StartBroker) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "wide", WIDE)
        await fill(wire, "wide", range(WIDE), batch_of(100))
    disk = CountingDisk()
    async with start_broker(disk=disk):
        assert disk.calls.total() <= 15 * WIDE, disk.calls
        assert disk.read_bytes <= 1000 * WIDE
