"""A partition that a request names twice is served and answered once, as it was named last: so does Apache Kafka."""

from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.record import read_records
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, fetch, make_topic
from tests.storage.batches import batch

TopicData = ProduceRequest.TopicProduceData
PartitionData = ProduceRequest.PartitionProduceData


def data(topic: str, *partitions: tuple[int, bytes]) -> TopicData:
    found = [PartitionData(index=index, records=batch(value)) for index, value in partitions]
    return TopicData(name=topic, partition_data=found)


async def produced(wire: Wire, *topics: TopicData) -> list[tuple[str, int, int, int]]:
    """Topic, partition, error and offset of each answer."""
    answer = await wire.ask(ProduceRequest(acks=-1, timeout_ms=1000, topic_data=list(topics)), PRODUCE)
    return sorted(
        (topic.name, one.index, one.error_code, one.base_offset)
        for topic in answer.responses
        for one in topic.partition_responses
    )


async def values(wire: Wire, topic: str, partition: int, offset: int = 0) -> list[bytes | None]:
    answer = await wire.ask(fetch(topic, {partition: offset}), FETCH)
    records = answer.responses[0].partitions[0].records
    return [record.value for record in read_records(records)] if records else []


async def test_the_last_batch_of_a_partition_is_appended(start_broker: StartBroker) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 2)
        answers = await produced(wire, data("t", (0, b"one"), (1, b"other"), (0, b"two")))
        assert answers == [("t", 0, 0, 0), ("t", 1, 0, 0)]
        assert await values(wire, "t", 0) == [b"two"]


async def test_also_when_its_topic_is_named_twice(start_broker: StartBroker) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 2)
        await make_topic(wire, "u", 1)
        answers = await produced(
            wire, data("t", (0, b"one")), data("u", (0, b"u")), data("t", (0, b"two"), (1, b"other"))
        )
        assert answers == [("t", 0, 0, 0), ("t", 1, 0, 0), ("u", 0, 0, 0)]
        assert await values(wire, "t", 0) == [b"two"]


async def test_what_is_not_there_is_refused_once(start_broker: StartBroker) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        answers = await produced(wire, data("t", (9, b"a"), (9, b"b"), (0, b"c")), data("no", (0, b"d"), (0, b"e")))
        assert answers == [("no", 0, 3, -1), ("t", 0, 0, 0), ("t", 9, 3, -1)]


async def test_a_fetch_reads_from_the_offset_that_was_said_last(start_broker: StartBroker) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        for value in (b"one", b"two", b"three"):
            await produced(wire, data("t", (0, value)))
        request = fetch("t", {0: 0})
        request.topics += fetch("t", {0: 2}).topics
        answer = await wire.ask(request, FETCH)
        [[found]] = [topic.partitions for topic in answer.responses]
        assert [record.value for record in read_records(found.records)] == [b"three"]
