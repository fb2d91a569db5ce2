"""A partition that a request names twice: as Apache Kafka 4.4.0 answers it, which is another way for each API."""

import pytest

from kafkapy.protocol.messages.delete_records import DeleteRecordsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest
from kafkapy.protocol.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.batch import walk
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, batch_of, fetch, fill, make_topic

INVALID_REQUEST = 42
UNKNOWN_TOPIC_OR_PARTITION = 3


async def stored(wire: Wire, topic: str, count: int) -> list[list[int]]:
    """The sizes of the batches of each partition."""
    answer = await wire.ask(fetch(topic, dict.fromkeys(range(count), 0)), FETCH)
    partitions = sorted(answer.responses[0].partitions, key=lambda found: int(found.partition_index))
    return [[header.size_bytes for _, header in walk(bytes(found.records or b""))] for found in partitions]


async def test_the_last_batch_counts(start_broker: StartBroker) -> None:
    first, last = batch_of(10), batch_of(50)
    data, topic = ProduceRequest.PartitionProduceData, ProduceRequest.TopicProduceData
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 3)
        await make_topic(wire, "u", 1)
        topics = [
            topic(name="t", partition_data=[data(index=0, records=first), data(index=1, records=first)]),
            topic(name="u", partition_data=[data(index=0, records=first), data(index=0, records=last)]),
            topic(name="t", partition_data=[data(index=0, records=last), data(index=7, records=last)]),
        ]
        answer = await wire.ask(ProduceRequest(acks=-1, timeout_ms=1000, topic_data=topics), PRODUCE)
        told = {
            topic.name: [(p.index, p.error_code, p.base_offset) for p in topic.partition_responses]
            for topic in answer.responses
        }
        assert len(answer.responses) == len(told)
        assert sorted(told["t"]) == [(0, 0, 0), (1, 0, 0), (7, UNKNOWN_TOPIC_OR_PARTITION, -1)]
        assert told["u"] == [(0, 0, 0)]
        assert await stored(wire, "t", 3) == [[len(last)], [len(first)], []]
        assert await stored(wire, "u", 1) == [[len(last)]]


@pytest.mark.parametrize("session_epoch", [-1, 0])
async def test_the_last_offset_counts_at_the_first_place(start_broker: StartBroker, session_epoch: int) -> None:
    partition, topic = FetchRequest.FetchPartition, FetchRequest.FetchTopic

    def at(index: int, offset: int) -> FetchRequest.FetchPartition:
        return partition(partition=index, fetch_offset=offset, partition_max_bytes=1000)

    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 3)
        await make_topic(wire, "u", 1)
        for _ in range(3):
            await fill(wire, "t", [0, 1], batch_of(10))
        request = FetchRequest(
            session_epoch=session_epoch,
            topics=[
                topic(topic="t", partitions=[at(0, 0), at(1, 0), at(0, 2)]),
                topic(topic="u", partitions=[at(0, 0)]),
                topic(topic="t", partitions=[at(1, 1), at(2, 0)]),
            ],
        )
        answer = await wire.ask(request, FETCH)
        found = [
            (
                topic.topic,
                [(p.partition_index, [h.base_offset for _, h in walk(bytes(p.records))]) for p in topic.partitions],
            )
            for topic in answer.responses
        ]
        assert found == [("t", [(0, [2]), (1, [1, 2])]), ("u", [(0, [])]), ("t", [(2, [])])]


async def test_two_questions_about_one_offset_are_one_too_many(start_broker: StartBroker) -> None:
    partition, topic = ListOffsetsRequest.ListOffsetsPartition, ListOffsetsRequest.ListOffsetsTopic
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 3)
        topics = [
            topic(name="t", partitions=[partition(partition_index=index, timestamp=-1) for index in indexes])
            for indexes in ([0, 1, 0], [1, 2])
        ]
        answer = await wire.ask(ListOffsetsRequest(replica_id=-1, topics=topics), 5)
        [told] = answer.topics
        found = sorted((p.partition_index, p.error_code, p.offset) for p in told.partitions)
        assert found == [(0, INVALID_REQUEST, -1), (1, INVALID_REQUEST, -1), (2, 0, 0)]


async def test_records_are_deleted_up_to_what_was_said_last(start_broker: StartBroker) -> None:
    partition, topic = DeleteRecordsRequest.DeleteRecordsPartition, DeleteRecordsRequest.DeleteRecordsTopic
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        for _ in range(3):
            await fill(wire, "t", [0], batch_of(10))
        topics = [topic(name="t", partitions=[partition(partition_index=0, offset=offset)]) for offset in (2, 1)]
        answer = await wire.ask(DeleteRecordsRequest(topics=topics, timeout_ms=1000), 2)
        [told] = answer.topics
        assert [(p.error_code, p.low_watermark) for p in told.partitions] == [(0, 1)]


async def test_each_question_about_an_epoch_is_answered(start_broker: StartBroker) -> None:
    partition, topic = (
        OffsetForLeaderEpochRequest.OffsetForLeaderPartition,
        OffsetForLeaderEpochRequest.OffsetForLeaderTopic,
    )
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        asked = [partition(partition=0, leader_epoch=epoch) for epoch in (0, 5)]
        request = OffsetForLeaderEpochRequest(replica_id=-1, topics=[topic(topic="t", partitions=asked)])
        answer = await wire.ask(request, 4)
        assert [(p.leader_epoch, p.end_offset) for p in answer.topics[0].partitions] == [(0, 0), (-1, -1)]
