"""A topic of many partitions is deleted with work that grows as it does, and nobody stands still meanwhile."""

from kafkapy.protocol.messages.metadata import MetadataRequest
from tests.broker.wire import Wire
from tests.scale.asking import batch_of, delete_topic, fill, make_topic
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, CountingDisk, counted_calls, meanwhile

WIDE = 1000 * SCALE


async def test_a_wide_topic_goes_with_a_call_a_partition(start_broker: StartBroker) -> None:
    """Neither the checkpoints nor the open files are gone through once a partition."""
    disk = CountingDisk()
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "wide", WIDE, flush_messages="1")
        await fill(wire, "wide", range(WIDE), batch_of(100))
        disk.reset()
        with counted_calls() as calls:
            await delete_topic(wire, "wide")
        assert disk.calls["rename"] == WIDE
        assert disk.calls.total() - disk.calls["forget"] <= WIDE + 50, disk.calls
        assert disk.written <= 100 * WIDE
        assert calls.total() <= 100 * WIDE, calls.most_common(10)


async def test_others_are_served_while_a_wide_topic_goes(start_broker: StartBroker) -> None:
    async with (
        start_broker() as broker,
        await Wire.connect(broker.port) as wire,
        await Wire.connect(broker.port) as other,
    ):
        await make_topic(wire, "wide", WIDE)
        await fill(wire, "wide", range(WIDE), batch_of(100))

        async def ask() -> None:
            await other.ask(MetadataRequest(topics=[]), 8)

        _, count = await meanwhile(lambda: delete_topic(wire, "wide"), ask)
        assert count >= 5 * SCALE
